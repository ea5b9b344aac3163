//! What the user of a stack calls.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::connection::{Connection, Opening};
use crate::event::{ConnectionId, ListenerId, Reason};
use crate::listener::Listener;
use crate::reassembly::Chunk;
use crate::secret::{Secret, Tuple};
use crate::send_queue::Payload;
use crate::sender::SendCounters;
use crate::state::State;
use crate::table::Stage;

use super::settle::mark_ready;
use super::{Counters, Stack};

/// The ports that are used for connections to a peer (RFC 6335, 6: dynamic ports).
const FIRST_PORT: u16 = 49_152;

/// Why no connection was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// There are as many connections as there may be.
    #[error("there are {0} connections already, the configured limit: close some or raise max_connections")]
    TooMany(usize),
    /// Every local port is in use for this peer.
    #[error("all local ports are in use for connections to {0}")]
    NoPort(SocketAddr),
    /// A connection with the same addresses exists.
    #[error("a connection from {0} to {1} already exists")]
    Exists(SocketAddr, SocketAddr),
    /// The addresses are not both IPv4 or both IPv6.
    #[error("{0} cannot connect to {1}: one is IPv4, the other IPv6")]
    Families(IpAddr, SocketAddr),
}

/// What can be told about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Information {
    /// This end's address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Its state.
    pub state: State,
    /// The smoothed round-trip time in microseconds, if it was measured.
    pub rtt: Option<u64>,
    /// The congestion window in bytes.
    pub congestion_window: u64,
    /// The peer's window in bytes.
    pub peer_window: u64,
    /// Bytes of data queued by the user and not acknowledged.
    pub queued: u64,
    /// What was counted about sending.
    pub sending: SendCounters,
}

impl Information {
    fn of<F, B: Payload>(connection: &Connection<F, B>) -> Information {
        let sender = connection.sender();
        Information {
            local: connection.local(),
            remote: connection.remote(),
            state: connection.state(),
            rtt: sender.rtt.smoothed(),
            congestion_window: sender.congestion_window(),
            peer_window: sender.peer_window(),
            queued: sender.queue.bytes(),
            sending: sender.counters,
        }
    }
}

impl Opening {
    pub(super) fn new(
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
        tuple: &Tuple,
        secret: &Secret,
        now: u64,
    ) -> Opening {
        let initial = secret.sequence_number(tuple, now);
        Opening { id, local, remote, initial, clock_offset: secret.clock_offset(tuple) }
    }
}

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Asks `remote` for a connection. Port 0 of `local` stands for one that is free.
    /// [`Event::Connected`](crate::Event::Connected) or [`Event::Closed`](crate::Event::Closed)
    /// follows.
    pub fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        now: u64,
    ) -> Result<ConnectionId, ConnectError> {
        self.connect_where(local, remote, now, |_| true)
    }

    /// Does the same, with a free port for which `suits` is true of the local address.
    pub fn connect_where(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        now: u64,
        suits: impl Fn(SocketAddr) -> bool,
    ) -> Result<ConnectionId, ConnectError> {
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(ConnectError::Families(local.ip(), remote));
        }
        if self.table.len() >= self.config.max_connections {
            return Err(ConnectError::TooMany(self.table.len()));
        }
        let local = match local.port() {
            0 => self.free_port(local, remote, suits).ok_or(ConnectError::NoPort(remote))?,
            _ => local,
        };
        let tuple = Tuple::new(local, remote);
        if self.table.find(&tuple).is_some() {
            return Err(ConnectError::Exists(local, remote));
        }
        let (secret, config) = (&self.secret, &self.config);
        let id = self.table.insert(tuple, Stage::InUse, |id| {
            Connection::connect(Opening::new(id, local, remote, &tuple, secret, now), config, now)
        });
        self.settle(id, now);
        Ok(id)
    }

    /// Returns the address with a port that is free for this peer (RFC 6056, 3.3.3), and suits.
    fn free_port(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        suits: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let ports = u16::MAX - FIRST_PORT + 1;
        let first = self.secret.port(&Tuple::new(local, remote)).wrapping_add(self.attempts);
        self.attempts = self.attempts.wrapping_add(1);
        (0..ports)
            .map(|n| SocketAddr::new(local.ip(), FIRST_PORT + first.wrapping_add(n) % ports))
            .find(|local| suits(*local) && self.table.find(&Tuple::new(*local, remote)).is_none())
    }

    /// Accepts connections at an address, which may be unspecified (`0.0.0.0` or `::`). Up to
    /// `backlog` open connections wait for [`Stack::accept`]. Returns `None` if there is such a
    /// listener already.
    pub fn listen(&mut self, address: SocketAddr, backlog: usize) -> Option<ListenerId> {
        if self.listeners.iter().flatten().any(|listener| listener.address == address) {
            return None;
        }
        let free = self.listeners.iter().position(Option::is_none).unwrap_or_else(|| {
            self.listeners.push(None);
            self.listeners.len() - 1
        });
        self.listeners[free] = Some(Listener::new(address, backlog.max(1)));
        Some(ListenerId(free as u32))
    }

    /// Stops accepting. Connections that were not accepted are reset.
    pub fn unlisten(&mut self, listener: ListenerId, now: u64) {
        let Some(queue) = self.listeners.get_mut(listener.0 as usize).and_then(Option::take) else { return };
        for id in queue.half_open.into_iter().chain(queue.waiting) {
            let stage = self.table.get(id).map(|entry| entry.stage);
            if matches!(stage, Some(Stage::HalfOpen(of) | Stage::Waiting(of)) if of == listener) {
                self.step(id, now, |connection, cx| connection.abort(Reason::Aborted, cx));
            }
        }
    }

    /// Returns true if a connection waits to be accepted. It may have ended meanwhile.
    pub fn has_waiting(&self, listener: ListenerId) -> bool {
        let listener = self.listeners.get(listener.0 as usize).and_then(Option::as_ref);
        listener.is_some_and(|listener| !listener.waiting.is_empty())
    }

    /// Takes the next connection that waits to be accepted.
    pub fn accept(&mut self, listener: ListenerId, now: u64) -> Option<ConnectionId> {
        loop {
            let id = self.listeners.get_mut(listener.0 as usize)?.as_mut()?.waiting.pop_front()?;
            if let Some(entry) = self.table.get_mut(id) {
                entry.stage = Stage::InUse;
                self.step(id, now, |connection, cx| connection.accept(cx));
                return Some(id);
            }
        }
    }

    /// Queues data to be sent. Returns it if the connection does not take it: it has ended or was
    /// closed, or too much is queued, in which case there is room after the next
    /// [`Event::Released`](crate::Event::Released).
    pub fn send(&mut self, id: ConnectionId, buffer: B) -> Result<(), B> {
        let Some(entry) = self.table.get_mut(id) else { return Err(buffer) };
        entry.connection.send(buffer, &self.config)?;
        mark_ready(entry, &mut self.ready);
        Ok(())
    }

    /// Returns the bytes that are queued and were not sent yet.
    pub fn unsent(&self, id: ConnectionId) -> u64 {
        self.table.get(id).map_or(0, |entry| entry.connection.sender().unsent())
    }

    /// Takes the next received data out.
    pub fn read(&mut self, id: ConnectionId, now: u64) -> Option<Chunk<F>> {
        let entry = self.table.get_mut(id)?;
        let chunk = entry.connection.read(&self.config, now)?;
        // The peer may have to be told that there is room.
        if entry.connection.owes_ack() {
            mark_ready(entry, &mut self.ready);
        }
        Some(chunk)
    }

    /// Returns whether the peer has closed and all its data was read.
    pub fn is_at_end(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|entry| entry.connection.is_at_end())
    }

    /// Returns whether [`Stack::send`] may take data.
    pub fn may_send(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|entry| entry.connection.may_send())
    }

    /// Closes this end's direction, behind the data that is queued. The peer's goes on.
    pub fn shutdown(&mut self, id: ConnectionId, now: u64) {
        self.step(id, now, |connection, cx| connection.shutdown(cx));
    }

    /// Closes a connection. Queued data is still sent. A peer whose data was not read is reset.
    pub fn close(&mut self, id: ConnectionId, now: u64) {
        self.step(id, now, |connection, cx| connection.close(cx));
    }

    /// Resets a connection.
    pub fn abort(&mut self, id: ConnectionId, now: u64) {
        self.step(id, now, |connection, cx| connection.abort(Reason::Aborted, cx));
    }

    /// Returns what can be told about a connection.
    pub fn information(&self, id: ConnectionId) -> Option<Information> {
        self.table.get(id).map(|entry| Information::of(&entry.connection))
    }

    /// Calls `f` with what can be told about each connection.
    pub fn connections(&self, mut f: impl FnMut(ConnectionId, Information)) {
        self.table.for_each(|connection| f(connection.id(), Information::of(connection)));
    }

    /// Returns what was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
