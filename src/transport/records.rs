//! Both directions of a secured connection.

use dst_security::{Keys, RECORD_HEADER_LEN, record::RecordHeader};
use spdk::iov::{Iov, IovMut};
use spdk::sock::Sock;

use crate::Broken;
use crate::batch::{AT_ONCE, BUFFER, Batch, Pieces, RECORDS_MAX, Work};
use crate::workers::{DEPTH, HAND_OVER, Line, has_workers};

/// Receives that fill the buffer in one turn, from which on what comes is handed over to workers, until a turn has none. One
/// large I/O, or 32 of 4 KiB, fill it once: who waits for these has them sooner if they are decrypted at once.
const FILLS_MIN: u32 = 2;

/// Most records that are opened in one turn, so that one connection can't keep a reactor for itself. As many bytes as a turn
/// receives, 1 MiB, are 64 records of full size, or this many of 1 KiB; but 50,000 of one byte. If each of those changes the
/// key, it takes 4 µs: this many take 4 ms.
const RECORDS_A_TURN: usize = if cfg!(feature = "simulator") { 4 } else { 1024 };

/// Records on their way to the socket.
pub struct Outgoing {
    keys: Keys,
    line: Line,
    /// Bytes of the first batch that are with the socket.
    sent: usize,
    /// Bytes of all batches that are not.
    pub unsent: usize,
}

impl Outgoing {
    pub fn new(keys: Keys) -> Outgoing {
        let mut line = Line::new();
        line.free.push(Batch::new(Work::Seal));
        Outgoing { keys, line, sent: 0, unsent: 0 }
    }

    /// Takes bytes, and sends what the socket takes. Gives how many were taken.
    pub fn writev(&mut self, sock: &Sock, iov: &Iov<'_>) -> Result<usize, Broken> {
        let mut taken = 0;
        let mut pieces = Pieces::new(iov);
        loop {
            self.flush(sock)?;
            let is_handed_over = self.hands_over(&pieces);
            // Without workers there is nothing to be gained by having more than one.
            if pieces.left() == 0 || self.line.len() >= if is_handed_over { DEPTH } else { 1 } {
                return Ok(taken);
            }
            let mut batch = self.line.free.pop().unwrap_or_else(|| Batch::new(Work::Seal));
            taken += batch.fill(&mut pieces, |len| self.keys.send(len), !is_handed_over);
            self.unsent += batch.filled;
            if is_handed_over {
                self.line.hand_over(batch);
            } else {
                self.line.push(batch);
            }
        }
    }

    /// Whether it is worth it to have workers do the next of the pieces: if there is more than goes at once, or if they
    /// have to wait for what is before them anyway. One large I/O alone is done sooner here.
    fn hands_over(&self, pieces: &Pieces<'_, '_>) -> bool {
        let least = if self.line.is_empty() { AT_ONCE + 1 } else { HAND_OVER };
        pieces.left() >= least && has_workers()
    }

    /// Sends what is ready, in order, as much as the socket takes.
    fn flush(&mut self, sock: &Sock) -> Result<(), Broken> {
        while let Some(batch) = self.line.front() {
            let mut iov = Iov::new();
            iov.push(&batch.buffer[self.sent..batch.filled]);
            let sent = sock.writev(&iov).map_err(Broken::Socket)?.unwrap_or(0);
            if sent == 0 {
                return Ok(());
            }
            self.sent += sent;
            self.unsent -= sent;
            if self.sent == batch.filled {
                self.sent = 0;
                self.line.pop();
            }
        }
        Ok(())
    }
}

/// Records that came from the socket.
pub struct Incoming {
    keys: Keys,
    buffer: Box<[u8]>,
    /// What of the buffer is not decrypted yet.
    sealed: std::ops::Range<usize>,
    /// What is decrypted and was not taken yet. In front of `sealed`.
    opened: std::ops::Range<usize>,
    /// What came before all that.
    line: Line,
    /// System calls that it may make yet.
    calls: usize,
    /// Records that it may open yet.
    records: usize,
    /// How many of this turn's receives have filled the buffer, and whether there were any others.
    fills: u32,
    has_received: bool,
    /// So much comes that workers are worth it.
    is_deep: bool,
    /// The peer has closed.
    has_ended: bool,
}

impl Incoming {
    pub fn new(keys: Keys) -> Incoming {
        let buffer = vec![0; BUFFER].into();
        Incoming {
            keys,
            buffer,
            sealed: 0..0,
            opened: 0..0,
            line: Line::new(),
            calls: 0,
            records: 0,
            fills: 0,
            has_received: false,
            is_deep: false,
            has_ended: false,
        }
    }

    /// Begins a turn, in which it may make so many system calls.
    pub fn begin_turn(&mut self, calls: usize) {
        self.calls = calls;
        self.records = RECORDS_A_TURN;
        self.is_deep &= self.fills > 0 || !self.has_received;
        (self.fills, self.has_received) = (0, false);
    }

    /// The next record, if all of it is there.
    fn next(&self) -> Result<Option<RecordHeader>, Broken> {
        self.record_at(self.sealed.start)
    }

    fn record_at(&self, start: usize) -> Result<Option<RecordHeader>, Broken> {
        let sealed = &self.buffer[start..self.sealed.end];
        let Some(&bytes) = sealed.first_chunk::<RECORD_HEADER_LEN>() else { return Ok(None) };
        let header = RecordHeader::decode(bytes)?;
        Ok((sealed.len() >= header.record_len()).then_some(header))
    }

    /// Whether it holds what can be read at once.
    pub fn holds_bytes(&self) -> bool {
        // One that is none has to be looked at, too.
        let may_open = self.line.is_empty() && self.records > 0;
        !self.opened.is_empty() || may_open && !matches!(self.next(), Ok(None))
    }

    /// Whether workers have some of it, or there was more than a turn may open.
    pub fn is_away(&self) -> bool {
        !self.line.is_empty() || self.records == 0 && !matches!(self.next(), Ok(None))
    }

    /// Reads into the pieces of `iov`.
    pub fn readv(&mut self, sock: &Sock, iov: &mut IovMut<'_>) -> Result<Option<usize>, Broken> {
        self.read(|buffer| sock.recv(buffer), iov)
    }

    fn read(
        &mut self,
        mut recv: impl FnMut(&mut [u8]) -> spdk::Result<Option<usize>>,
        iov: &mut IovMut<'_>,
    ) -> Result<Option<usize>, Broken> {
        let (mut index, mut at, mut got) = (0, 0, 0);
        while let Some(room) = iov.slice_mut(index) {
            let room = &mut room[at..];
            let len = if !self.line.is_empty() {
                self.take_first(room)?
            } else if !self.opened.is_empty() {
                self.take_opened(room)
            } else if let Some(header) = self.next()? {
                if self.records == 0 {
                    break;
                }
                if self.is_deep && has_workers() && self.hand_over()? {
                    continue;
                }
                self.open(header, room)?
            } else {
                0
            };
            got += len;
            at += len;
            if len == room.len() {
                index += 1;
                at = 0;
            }
            if len == 0 && !self.more(&mut recv)? {
                break;
            }
        }
        Ok(if got == 0 && self.has_ended && self.line.is_empty() {
            Some(0)
        } else {
            (got > 0).then_some(got)
        })
    }

    /// Bytes of the first batch of the line, if its records are decrypted.
    fn take_first(&mut self, room: &mut [u8]) -> Result<usize, Broken> {
        let Some(batch) = self.line.front() else { return Ok(0) };
        if let Some(error) = batch.error {
            return Err(error.into());
        }
        let len = batch.take(room);
        if batch.is_used_up() {
            self.line.pop();
        }
        Ok(len)
    }

    fn take_opened(&mut self, room: &mut [u8]) -> usize {
        let len = room.len().min(self.opened.len());
        let from = self.opened.start;
        room[..len].copy_from_slice(&self.buffer[from..from + len]);
        self.opened.start += len;
        len
    }

    /// Decrypts the next record: to where it belongs if all of it does. Gives how many bytes are there.
    fn open(&mut self, header: RecordHeader, room: &mut [u8]) -> Result<usize, Broken> {
        let record = self.sealed.start..self.sealed.start + header.record_len();
        let ticket = self.keys.receive(header)?;
        self.records -= 1;
        self.sealed.start = record.end;
        if header.len <= room.len() {
            ticket.open_to(&self.buffer[record], &mut room[..header.len])?;
            return Ok(header.len);
        }
        let from = record.start + RECORD_HEADER_LEN;
        ticket.open(&mut self.buffer[record])?;
        self.opened = from..from + header.len;
        Ok(self.take_opened(room))
    }

    /// Hands the records over that are there, if they are worth it. Nothing else of the buffer is in use.
    fn hand_over(&mut self) -> Result<bool, Broken> {
        let (mut end, mut records) = (self.sealed.start, 0);
        // Their keys are made here.
        while records < RECORDS_MAX.min(self.records)
            && let Some(header) = self.record_at(end)?
        {
            end += header.record_len();
            records += 1;
        }
        if end - self.sealed.start < HAND_OVER || self.line.len() >= DEPTH {
            return Ok(false);
        }
        self.records -= records;
        let mut batch = self.line.free.pop().unwrap_or_else(|| Batch::new(Work::Open));
        std::mem::swap(&mut batch.buffer, &mut self.buffer);
        batch.begin_at(self.sealed.start);
        while batch.filled < end {
            let bytes = *batch.buffer[batch.filled..].first_chunk().expect("it was looked at");
            batch.add(self.keys.receive(RecordHeader::decode(bytes)?)?);
        }
        let rest = &batch.buffer[end..self.sealed.end];
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.sealed = 0..rest.len();
        self.line.hand_over(batch);
        Ok(true)
    }

    /// Nothing can be read as it is. Whether it is worth another look.
    fn more(
        &mut self,
        recv: &mut impl FnMut(&mut [u8]) -> spdk::Result<Option<usize>>,
    ) -> Result<bool, Broken> {
        if self.calls == 0 || self.line.len() >= DEPTH {
            return Ok(false);
        }
        if self.sealed.start > 0 {
            self.buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..self.sealed.len();
        }
        if self.sealed.end == self.buffer.len() {
            return Ok(false);
        }
        self.calls -= 1;
        match recv(&mut self.buffer[self.sealed.end..]).map_err(Broken::Socket)? {
            None => Ok(false),
            Some(0) => {
                self.has_ended = true;
                Ok(false)
            }
            Some(got) => {
                self.sealed.end += got;
                self.has_received = true;
                self.fills += u32::from(self.sealed.end == self.buffer.len());
                self.is_deep |= self.fills >= FILLS_MIN;
                if !self.line.is_empty() && has_workers() {
                    self.hand_over()?;
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_security::{Initiator, accept, psk};
    use dst_wire::Cipher;
    use dst_wire::secure::{Offer, Secure};

    /// What a client sends with, and what its target receives with.
    fn keys() -> (Keys, Keys) {
        let psks = psk::parse(format!("DST-PSK-1\n{}\n", "5a".repeat(32)).as_bytes()).unwrap();
        let ciphers = vec![Cipher::Aes128Gcm as u8];
        let offer = Offer { versions: (1, 1), export: "disk".into(), host: "me".into(), ciphers };
        let (initiator, message) = Initiator::begin(&psks[0], &offer, &[1; 32]);
        let (answer, target) = accept(&psks, &Secure::decode(&message).unwrap(), &[2; 32]).unwrap();
        (initiator.finish(&answer).unwrap().send, target.receive)
    }

    /// Records of one byte each: the bytes of `data`.
    fn seal(keys: &mut Keys, data: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        for &byte in data {
            let mut record = [0; 1 + RECORD_HEADER_LEN + 16];
            record[RECORD_HEADER_LEN] = byte;
            keys.send(1).seal(&mut record);
            sealed.extend_from_slice(&record);
        }
        sealed
    }

    #[test]
    fn many_small_records_take_several_turns_and_none_is_forgotten() {
        let (mut client, target) = keys();
        let data: Vec<u8> = (0..2 * RECORDS_A_TURN + 100).map(|i| i as u8).collect();
        let sealed = seal(&mut client, &data);
        let mut incoming = Incoming::new(target);
        // A socket that has all of it at once, and then tells nothing more.
        let mut at = 0;
        let mut recv = |buffer: &mut [u8]| {
            let len = buffer.len().min(sealed.len() - at);
            buffer[..len].copy_from_slice(&sealed[at..at + len]);
            at += len;
            Ok((len > 0).then_some(len))
        };
        let (mut received, mut turns) = (Vec::new(), 0);
        loop {
            incoming.begin_turn(8);
            turns += 1;
            let before = received.len();
            // As a receiver does it, for whose frames one read may be too little.
            loop {
                let mut buffer = [0; 1000];
                let mut iov = IovMut::new();
                iov.push(&mut buffer);
                let got = incoming.read(&mut recv, &mut iov).unwrap();
                received.extend_from_slice(&buffer[..got.unwrap_or(0)]);
                if got.is_none() && !incoming.holds_bytes() {
                    break;
                }
            }
            assert!(received.len() - before <= RECORDS_A_TURN, "{} in one turn", received.len() - before);
            if !incoming.is_away() {
                break;
            }
        }
        assert!(received == data, "{} of {} bytes", received.len(), data.len());
        assert_eq!(turns, 3);
    }
}
