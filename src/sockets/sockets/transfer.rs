//! Reading and writing.

use std::io::{IoSlice, IoSliceMut};

use dst_tcp::Chunk;
use thiserror::Error;

use crate::data::Data;
use crate::entry::{End, Entry, Kind, Open, SocketId};
use crate::port::Port;

use super::{Slot, Sockets};

/// The memory of data that a connection may have queued, in bytes. Linux has 4 MiB
/// (`tcp_wmem`).
const QUEUED_MAX: usize = 4 << 20;

/// The data that a connection may have queued and not sent, in bytes; the last buffer may exceed it.
/// Linux calls the limit `TCP_NOTSENT_LOWAT`. Data is copied again when it is sent, and is then
/// still in the core's cache: without the limit, 128 KiB take 13 % longer, and with half of it no
/// less.
const UNSENT_MAX: u64 = 128 << 10;

/// The reason why nothing was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TransferError {
    /// There is nothing to read, or no room for data to be sent.
    #[error("try again later")]
    WouldBlock,
    /// The connection has ended.
    #[error(transparent)]
    Ended(End),
    /// The socket is a listener, or was closed.
    #[error("the socket is no connection")]
    NotConnected,
}

/// Returns an open connection. HOT.
fn open<F>(slots: &mut [Slot<F>], id: SocketId) -> Result<&mut Open<F>, TransferError> {
    let slot = slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation);
    match slot.and_then(|slot| slot.entry.as_mut()).map(|entry| &mut entry.kind) {
        Some(Kind::Open(open)) => Ok(open),
        Some(Kind::Connecting(_)) => Err(TransferError::WouldBlock),
        Some(Kind::Ended(end)) => Err(TransferError::Ended(*end)),
        Some(Kind::Listener(_)) | None => Err(TransferError::NotConnected),
    }
}

impl<P: Port, L: AsRef<[u8]>> Sockets<P, L> {
    /// Reads into `parts`. Returns the number of bytes; 0: the peer has closed.
    pub fn read(
        &mut self,
        id: SocketId,
        parts: &mut [IoSliceMut<'_>],
        now: u64,
    ) -> Result<usize, TransferError> {
        let Sockets { slots, driver, .. } = self;
        let open = open(slots, id)?;
        let Some(driver) = driver else { return Err(TransferError::Ended(End::InterfaceDeleted)) };
        let tcp = driver.interface.tcp();
        let mut total = 0;
        let mut room = parts.iter_mut().flat_map(|part| Some(&mut part[..]).filter(|part| !part.is_empty()));
        let mut part: &mut [u8] = room.next().unwrap_or_default();
        while !part.is_empty() {
            let Some(chunk) = open.rest.take().or_else(|| tcp.read(open.connection, now)) else {
                open.is_readable = false;
                break;
            };
            let Chunk { frame, mut range } = chunk;
            while !range.is_empty() && !part.is_empty() {
                let count = range.len().min(part.len());
                part[..count].copy_from_slice(&frame.as_ref()[range.start..range.start + count]);
                range.start += count;
                total += count;
                part = &mut std::mem::take(&mut part)[count..];
                if part.is_empty() {
                    part = room.next().unwrap_or_default();
                }
            }
            if !range.is_empty() {
                open.rest = Some(Chunk { frame, range });
            }
        }
        if total == 0 && !open.is_readable {
            if !tcp.is_at_end(open.connection) {
                return Err(TransferError::WouldBlock);
            }
            // The end is there to be read until the socket is closed.
            open.is_readable = true;
        } else if !open.is_readable && tcp.is_at_end(open.connection) {
            open.is_readable = true;
        }
        Ok(total)
    }

    /// Copies data to be sent. Returns the number of bytes, possibly not all.
    pub fn write(&mut self, id: SocketId, parts: &[IoSlice<'_>]) -> Result<usize, TransferError> {
        let Sockets { slots, driver, buffers, pace, .. } = self;
        let open = open(slots, id)?;
        let Some(driver) = driver else { return Err(TransferError::Ended(End::InterfaceDeleted)) };
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        let wanted = left;
        let mut rest = parts.iter().flat_map(|part| Some(&part[..]).filter(|part| !part.is_empty()));
        let mut part: &[u8] = rest.next().unwrap_or_default();
        let mut unsent = driver.interface.tcp().unsent(open.connection);
        while left > 0 && open.queued < QUEUED_MAX && unsent < UNSENT_MAX {
            let Some(mut buffer) = buffers.take(left) else { break };
            while !part.is_empty() {
                let count = buffer.append(part);
                if count == 0 {
                    break;
                }
                left -= count;
                part = &part[count..];
                if part.is_empty() {
                    part = rest.next().unwrap_or_default();
                }
            }
            let (capacity, len) = (buffer.capacity(), buffer.as_ref().len());
            if let Err(data) = driver.interface.tcp().send(open.connection, Data::Copied(buffer)) {
                if let Data::Copied(buffer) = data {
                    buffers.put(buffer);
                }
                left += len;
                break;
            }
            open.queued += capacity;
            unsent += len as u64;
        }
        pace.wrote(wanted - left);
        if left == wanted && wanted > 0 { Err(TransferError::WouldBlock) } else { Ok(wanted - left) }
    }
    /// Takes lent data to be sent, of `len` bytes in all, at most 4 MiB: all of it, or none. It comes back
    /// when it is acknowledged, which [`Sockets::released`] tells, or when the connection ends.
    pub fn lend(
        &mut self,
        id: SocketId,
        parts: impl IntoIterator<Item = L>,
        len: usize,
    ) -> Result<(), TransferError> {
        let Sockets { slots, driver, pace, .. } = self;
        let open = open(slots, id)?;
        let Some(driver) = driver else { return Err(TransferError::Ended(End::InterfaceDeleted)) };
        let tcp = driver.interface.tcp();
        if open.queued >= QUEUED_MAX || !tcp.may_send(open.connection) {
            return Err(TransferError::WouldBlock);
        }
        for part in parts {
            let len = part.as_ref().len();
            // Otherwise the owner would not know that some of the data is lent.
            let is_taken = tcp.send(open.connection, Data::Lent(part)).is_ok();
            assert!(is_taken, "TCP takes less than a connection may have queued");
            open.queued += len;
            open.lent += len;
        }
        pace.wrote(len);
        Ok(())
    }

    /// Returns how much of what was lent has come back, in bytes: all, if the connection has ended.
    pub fn released(&self, id: SocketId) -> u64 {
        match self.get(id).map(|entry| &entry.kind) {
            Some(Kind::Open(open)) => open.released,
            _ => u64::MAX,
        }
    }

    /// Takes back all that is lent: a connection that still needs some is reset.
    pub fn recall(&mut self, id: SocketId, now: u64) {
        if let Some(Entry { kind: Kind::Open(Open { connection, lent: 1.., .. }), .. }) = self.get(id) {
            let connection = *connection;
            if let Some(driver) = &mut self.driver {
                driver.interface.tcp().abort(connection, now);
            }
            self.take_events();
        }
    }
}
