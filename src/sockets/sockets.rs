//! The sockets of an interface.

mod groups;
mod transfer;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dst_net::{Config, ConfigError, ConnectError, Counters, NetEvent};
use dst_tcp::{ConnectionId, Event, Information, ListenerId, Reason, Secret};
use thiserror::Error;

use crate::buffers::Buffers;
use crate::by_connection::ByConnection;
use crate::data::{Data, NothingLent};
use crate::driver::Driver;
use crate::entry::{End, Entry, Kind, Open, SocketId};
use crate::exchange::{Exchange, Steered};
use crate::pace::Pace;
use crate::port::Port;

pub use transfer::TransferError;

/// The state of a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// The peer has not answered.
    Pending,
    /// The connection is open.
    Open,
    /// The attempt has failed.
    Failed(End),
}

/// The reason why a listener was not created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ListenError {
    /// The interface does not have the address.
    #[error("the interface does not have the address {0}")]
    NotOurs(IpAddr),
    /// Another listener has the address and the port.
    #[error("another socket listens on {0}")]
    InUse(SocketAddr),
}

/// The connections that may wait for [`Sockets::accept`]. Linux has 4,096 (`somaxconn`).
const BACKLOG: usize = 4_096;

#[derive(Debug)]
struct Slot<F> {
    generation: u32,
    entry: Option<Entry<F>>,
}

/// What was counted.
#[derive(Debug, Clone, Copy)]
pub struct SocketsCounters {
    /// Below TCP.
    pub link: Counters,
    /// By TCP.
    pub tcp: dst_tcp::Counters,
    /// Of the frames that were for other shards.
    pub steered: Steered,
}

/// The sockets of an interface, or of a shard of one, until the interface and all of them are gone. `L`
/// is the data that users lend.
#[derive(Debug)]
pub struct Sockets<P: Port, L = NothingLent> {
    slots: Vec<Slot<P::Frame>>,
    free: Vec<u32>,
    /// The sockets of connections that have not ended.
    by_connection: ByConnection,
    /// For each group that had a socket with something to read, the indexes of the sockets that may
    /// be ready. There are as many groups as reactors, or a few times that, so a search is cheaper
    /// than hashing.
    groups: Vec<(u64, VecDeque<u32>)>,
    /// How many of them are reported at a time.
    pace: Pace,
    buffers: Buffers,
    /// The addresses of the interface that were configured.
    addresses: Vec<IpAddr>,
    /// The addresses about which it is not known yet whether another host has them.
    undecided: Vec<IpAddr>,
    /// `None` once the interface was deleted. Entries hold frames of its port, which is dropped
    /// after them.
    driver: Option<Driver<P, L>>,
}

impl<P: Port, L: AsRef<[u8]>> Sockets<P, L> {
    /// Returns an interface on a port, without sockets. `secret` is random bytes that no other host
    /// knows.
    pub fn new(port: P, config: Config, secret: Secret, now: u64) -> Result<Sockets<P, L>, ConfigError> {
        Sockets::sharing(port, config, None, secret, now)
    }

    /// Returns a shard of an interface, on a queue pair of its port. `exchange` is that of all its
    /// shards, and `config` says which one this is.
    pub fn shard(
        port: P,
        config: Config,
        exchange: &Arc<Exchange<P::Frame>>,
        secret: Secret,
        now: u64,
    ) -> Result<Sockets<P, L>, ConfigError> {
        Sockets::sharing(port, config, Some(Arc::clone(exchange)), secret, now)
    }

    fn sharing(
        port: P,
        config: Config,
        exchange: Option<Arc<Exchange<P::Frame>>>,
        secret: Secret,
        now: u64,
    ) -> Result<Sockets<P, L>, ConfigError> {
        let addresses: Vec<IpAddr> = config.addresses.iter().map(|prefix| prefix.address).collect();
        let asks = config.detect_duplicates && config.shard.is_first();
        let undecided = if asks { addresses.clone() } else { Vec::new() };
        Ok(Sockets {
            slots: Vec::new(),
            free: Vec::new(),
            by_connection: ByConnection::default(),
            groups: Vec::new(),
            pace: Pace::default(),
            buffers: Buffers::default(),
            addresses,
            undecided,
            driver: Some(Driver::new(port, config, exchange, secret, now)?),
        })
    }

    /// Makes a turn: receives, does what is due, and sends. `told` gets the events of the
    /// interface. Returns true if there was something to do.
    pub fn turn(&mut self, now: u64, mut told: impl FnMut(NetEvent)) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        let received = driver.receive(now);
        while let Some(event) = driver.interface.event() {
            let (NetEvent::Usable(address) | NetEvent::Duplicate(address, _)) = event;
            self.undecided.retain(|undecided| *undecided != address);
            told(event);
        }
        driver.agree();
        self.take_events();
        let sent = self.driver.as_mut().map_or(0, |driver| driver.send(now));
        received + sent > 0
    }

    /// Returns true when it is known for every address whether another host has it. Of several shards,
    /// the first one knows.
    pub fn is_decided(&self) -> bool {
        self.undecided.is_empty()
    }

    fn take_events(&mut self) {
        while let Some(event) = self.driver.as_mut().and_then(|driver| driver.interface.tcp().event()) {
            match event {
                Event::Incoming(_) => {}
                Event::Connected(connection) => {
                    if let Some(entry) = self.entry_of(connection) {
                        entry.kind = Kind::Open(Open::new(connection));
                    }
                }
                Event::Readable(connection) => {
                    if let Some(Entry { kind: Kind::Open(open), .. }) = self.entry_of(connection) {
                        open.is_readable = true;
                        self.list_connection(connection);
                    }
                }
                Event::Released(connection, data) => self.take_back(connection, data),
                Event::Closed(connection, reason) => {
                    if let Some(entry) = self.entry_of(connection) {
                        entry.kind = Kind::Ended(End::Tcp(reason));
                        self.list_connection(connection);
                        self.by_connection.remove(connection);
                    }
                }
            }
        }
    }

    fn take_back(&mut self, connection: ConnectionId, data: Data<L>) {
        if let Some(Entry { kind: Kind::Open(open), .. }) = self.entry_of(connection) {
            match &data {
                Data::Copied(buffer) => open.queued -= buffer.capacity(),
                Data::Lent(lent) => {
                    let len = lent.as_ref().len();
                    open.queued -= len;
                    open.lent -= len;
                    open.released += len as u64;
                }
            }
        }
        if let Data::Copied(buffer) = data {
            self.buffers.put(buffer);
        }
    }

    fn entry_of(&mut self, connection: ConnectionId) -> Option<&mut Entry<P::Frame>> {
        let index = self.by_connection.get(connection)?;
        self.slots[index as usize].entry.as_mut()
    }

    fn list_connection(&mut self, connection: ConnectionId) {
        if let Some(index) = self.by_connection.get(connection) {
            self.list(index);
        }
    }

    fn get(&self, id: SocketId) -> Option<&Entry<P::Frame>> {
        let slot = self.slots.get(id.index as usize)?;
        slot.entry.as_ref().filter(|_| slot.generation == id.generation)
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut Entry<P::Frame>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.entry.as_mut().filter(|_| slot.generation == id.generation)
    }

    fn insert(&mut self, entry: Entry<P::Frame>) -> SocketId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        if let Some(connection) = entry.connection() {
            self.by_connection.insert(connection, index);
        }
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
        SocketId { index, generation: slot.generation }
    }

    /// Returns true if the interface can connect to an address.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.interface.reaches(address))
    }

    /// Returns true if the interface has an address, whether or not it is usable.
    pub fn has(&self, address: IpAddr) -> bool {
        self.driver.is_some() && self.addresses.contains(&address)
    }

    /// Opens a connection. [`Sockets::attempt`] tells what becomes of it.
    pub fn connect(&mut self, remote: SocketAddr, now: u64) -> Result<SocketId, ConnectError> {
        // The new connection may have the index of one that has ended. That one's socket has to
        // hear of the end first.
        self.take_events();
        let driver = self.driver.as_mut().ok_or(ConnectError::NoRoute(remote))?;
        driver.agree();
        let connection = driver.interface.connect(remote, now)?;
        let local = driver.interface.tcp().information(connection).map_or(remote, |found| found.local);
        Ok(self.insert(Entry::new(Kind::Connecting(connection), local, Some(remote))))
    }

    /// Returns the state of a connection attempt.
    pub fn attempt(&self, id: SocketId) -> Connect {
        match self.get(id).map(|entry| &entry.kind) {
            Some(Kind::Connecting(_)) => Connect::Pending,
            Some(Kind::Open(_) | Kind::Listener(_)) => Connect::Open,
            Some(Kind::Ended(end)) => Connect::Failed(*end),
            None => Connect::Failed(End::Tcp(Reason::Aborted)),
        }
    }

    /// Listens at an address of the interface.
    pub fn listen(&mut self, local: SocketAddr) -> Result<SocketId, ListenError> {
        let is_ours = self.has(local.ip());
        let driver = self.driver.as_mut().filter(|_| is_ours).ok_or(ListenError::NotOurs(local.ip()))?;
        let listener = driver.interface.tcp().listen(local, BACKLOG).ok_or(ListenError::InUse(local))?;
        Ok(self.insert(Entry::new(Kind::Listener(listener), local, None)))
    }

    fn listener(&self, id: SocketId) -> Option<ListenerId> {
        match self.get(id)?.kind {
            Kind::Listener(listener) => Some(listener),
            Kind::Connecting(_) | Kind::Open(_) | Kind::Ended(_) => None,
        }
    }

    /// Returns true if a call of [`Sockets::accept`] is worth while: a connection waits, or the
    /// interface was deleted.
    pub fn has_waiting(&mut self, id: SocketId) -> bool {
        let listener = self.listener(id);
        let Some(driver) = &mut self.driver else { return true };
        listener.is_some_and(|listener| driver.interface.tcp().has_waiting(listener))
    }

    /// Accepts the next connection that waits at a listener.
    pub fn accept(&mut self, id: SocketId, now: u64) -> Option<SocketId> {
        let listener = self.listener(id)?;
        let tcp = self.driver.as_mut()?.interface.tcp();
        let connection = tcp.accept(listener, now)?;
        let Information { local, remote, .. } = tcp.information(connection)?;
        let id = self.insert(Entry::new(Kind::Open(Open::new(connection)), local, Some(remote)));
        // The connection may already have something to read.
        self.take_events();
        Some(id)
    }

    /// Closes a socket. Data that is queued is still sent; a connection that is not open yet is
    /// given up. Data that was not read resets the connection, and so does lent data that was not
    /// acknowledged.
    pub fn close(&mut self, id: SocketId, now: u64) {
        if self.get(id).is_none() {
            return;
        }
        self.leave(id);
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let Some(entry) = slot.entry.take() else { return };
        self.free.push(id.index);
        if let Some(connection) = entry.connection() {
            self.by_connection.remove(connection);
        }
        if let Some(driver) = &mut self.driver {
            let tcp = driver.interface.tcp();
            match entry.kind {
                Kind::Listener(listener) => tcp.unlisten(listener, now),
                Kind::Connecting(connection) => tcp.abort(connection, now),
                Kind::Open(Open { connection, rest, lent, .. }) if rest.is_some() || lent > 0 => {
                    tcp.abort(connection, now);
                }
                Kind::Open(Open { connection, .. }) => tcp.close(connection, now),
                Kind::Ended(_) => {}
            }
        }
        self.take_events();
    }

    /// Returns the local address of a socket and the peer's.
    pub fn addresses(&self, id: SocketId) -> Option<(SocketAddr, Option<SocketAddr>)> {
        self.get(id).map(|entry| (entry.local, entry.remote))
    }

    /// Returns what TCP can tell about each connection.
    pub fn connections(&mut self) -> Vec<Information> {
        let mut all = Vec::new();
        if let Some(driver) = &mut self.driver {
            driver.interface.tcp().connections(|_, information| all.push(information));
        }
        all
    }

    /// Returns what was counted, and the port; or `None` if the interface was deleted.
    pub fn counters(&mut self) -> Option<(SocketsCounters, &P)> {
        let driver = self.driver.as_mut()?;
        let link = driver.interface.counters();
        let counters =
            SocketsCounters { link, tcp: driver.interface.tcp().counters(), steered: driver.steered() };
        Some((counters, driver.port()))
    }

    /// Returns the memory of data to be sent that is in use, in bytes.
    pub fn used_buffers(&self) -> usize {
        self.buffers.used()
    }

    /// Returns true once the interface was deleted.
    pub fn is_deleted(&self) -> bool {
        self.driver.is_none()
    }

    /// Deletes the interface: resets its connections, and drops the port once all its frames have
    /// gone back to it. The sockets, which have ended, stay until they are closed.
    pub fn delete(&mut self, now: u64) {
        let Some(mut driver) = self.driver.take() else { return };
        let mut ids = Vec::new();
        driver.interface.tcp().connections(|id, _| ids.push(id));
        for id in ids {
            driver.interface.tcp().abort(id, now);
        }
        driver.send(now);
        while let Some(event) = driver.interface.tcp().event() {
            if let Event::Released(_, Data::Copied(buffer)) = event {
                self.buffers.put(buffer);
            }
        }
        for index in 0..self.slots.len() {
            if let Some(entry) = &mut self.slots[index].entry {
                // This drops frames of the port.
                entry.kind = Kind::Ended(End::InterfaceDeleted);
                self.list(index as u32);
            }
        }
        self.by_connection.clear();
        drop(driver);
        // The buffers go now: a listener in a group may keep the rest for long.
        debug_assert_eq!(self.buffers.used(), 0, "buffers are missing");
        self.buffers = Buffers::default();
        self.undecided.clear();
    }
}
