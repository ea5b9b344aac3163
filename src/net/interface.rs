//! An interface: what a port's driver and the user of its connections call.

mod input;
mod output;

use std::net::{IpAddr, SocketAddr};

use dst_tcp::{ConnectionId, Payload, Secret, Stack};
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::counters::Counters;
use crate::event::NetEvent;
use crate::link::Link;

/// Connections that TCP is told of at a time, whose next hop does not answer. The others find out
/// with their next segment.
const MAX_FAILED: usize = 64;

/// The headers of an IPv4 packet, and of its TCP segment, without options.
const HEADERS: u16 = 40;

/// What the longest IP packet leaves for data, after the longest headers (RFC 791, RFC 9293).
const MAX_OFFLOAD: u32 = 65_535 - 2 * 60;

/// What the port has already found to be right in a received frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// The checksum of the IPv4 header.
    pub ipv4: bool,
    /// The checksum of the TCP segment.
    pub tcp: bool,
}

/// Why no connection was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// No network or route of the interface has the address.
    #[error("no route of this interface leads to {0}: add a route or use another interface")]
    NoRoute(SocketAddr),
    /// No address of that family is in use, or not yet.
    #[error("no address of this interface is usable for {0}: another host has it, or it is being probed")]
    NoAddress(SocketAddr),
    /// TCP refuses.
    #[error(transparent)]
    Tcp(#[from] dst_tcp::ConnectError),
}

/// An interface, and the TCP above it.
///
/// Each turn of the caller's poller:
///
/// 1. passes the received frames in ([`Interface::receive`]),
/// 2. passes the time in ([`Interface::on_time`]), at the latest at [`Interface::deadline`],
/// 3. takes out events ([`Interface::event`], and TCP's), reads, and queues data,
/// 4. takes out frames ([`Interface::transmit`]).
///
/// `F` is a received frame, and `B` is the user's reference to data to be sent. All times are
/// microseconds of one clock that never goes back.
#[derive(Debug)]
pub struct Interface<F, B> {
    tcp: Stack<F, B>,
    link: Link,
    /// Connections whose next hop does not answer.
    failed: Vec<(SocketAddr, SocketAddr)>,
}

impl<F: AsRef<[u8]>, B: Payload + AsRef<[u8]>> Interface<F, B> {
    /// Returns an interface without connections. `secret`: random bytes that nobody else knows.
    pub fn new(config: Config, secret: Secret, now: u64) -> Result<Interface<F, B>, ConfigError> {
        config.check()?;
        let link = Link::new(&config, secret, now);
        let mut tcp = config.tcp;
        tcp.mss = config.mtu - HEADERS;
        tcp.offload_bytes = tcp.offload_bytes.min(MAX_OFFLOAD);
        Ok(Interface { tcp: Stack::new(tcp, secret), link, failed: Vec::with_capacity(MAX_FAILED) })
    }

    /// Returns TCP, to accept, send, read and close. Connections are made by
    /// [`Interface::connect`].
    pub fn tcp(&mut self) -> &mut Stack<F, B> {
        &mut self.tcp
    }

    /// Returns whether the interface can send to an address: a neighbour's, or one that a route
    /// leads to.
    pub fn reaches(&self, address: IpAddr) -> bool {
        !self.link.addresses.is_own(address) && self.link.routes.next_hop(address).is_some()
    }

    /// Returns whether an address is the interface's own, and in use.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.link.addresses.is_usable(address)
    }

    /// Asks `remote` for a connection, from the address that suits it best.
    /// [`Event::Connected`](dst_tcp::Event::Connected) or
    /// [`Event::Closed`](dst_tcp::Event::Closed) follows.
    pub fn connect(&mut self, remote: SocketAddr, now: u64) -> Result<ConnectionId, ConnectError> {
        if !self.reaches(remote.ip()) {
            return Err(ConnectError::NoRoute(remote));
        }
        let next_hop = self.link.routes.next_hop(remote.ip());
        let source = next_hop.and_then(|next_hop| self.link.addresses.source_for(next_hop));
        let local = SocketAddr::new(source.ok_or(ConnectError::NoAddress(remote))?, 0);
        Ok(self.tcp.connect(local, remote, now)?)
    }

    /// Takes the time: does what is due.
    pub fn on_time(&mut self, now: u64) {
        self.tcp.on_time(now);
        self.link_on_time(now);
    }

    fn link_on_time(&mut self, now: u64) {
        let Interface { link, failed, .. } = self;
        link.on_time(now, &mut |ends| note_failed(failed, ends));
        self.tell_failed(now);
    }

    /// Tells TCP of the connections whose next hop does not answer.
    fn tell_failed(&mut self, now: u64) {
        for (local, remote) in self.failed.drain(..) {
            self.tcp.unreachable(local, remote, None, now);
        }
    }

    /// Returns when [`Interface::on_time`] has to be called at the latest.
    pub fn deadline(&self) -> Option<u64> {
        [self.tcp.deadline(), self.link.deadline()].into_iter().flatten().min()
    }

    /// Takes out the next event that is not TCP's.
    pub fn event(&mut self) -> Option<NetEvent> {
        self.link.events.pop_front()
    }

    /// Returns what was counted below TCP.
    pub fn counters(&self) -> Counters {
        self.link.counters
    }
}

fn note_failed(failed: &mut Vec<(SocketAddr, SocketAddr)>, ends: (SocketAddr, SocketAddr)) {
    if failed.len() < MAX_FAILED {
        failed.push(ends);
    }
}
