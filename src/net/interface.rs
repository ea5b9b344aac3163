//! An interface: the calls of a port's driver and of the user of its connections.

mod input;
mod output;

use std::net::{IpAddr, SocketAddr};

use dst_tcp::{ConnectionId, Payload, Secret, Stack};
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::counters::Counters;
use crate::event::NetEvent;
use crate::familiar::Familiar;
use crate::link::Link;
use crate::shard::Shard;

/// The maximum number of connections that TCP is told of at a time because their next hop does not
/// answer. Further ones are noticed with their next segment.
const MAX_FAILED: usize = 64;

/// The length of the headers of IPv4 and TCP without options, bytes.
const HEADERS: u16 = 40;

/// The most data that fits into the longest IP packet behind the longest headers (RFC 791, RFC
/// 9293), bytes.
const MAX_OFFLOAD: u32 = 65_535 - 2 * 60;

/// The checksums that the port has found to be correct in a received frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// The checksum of the IPv4 header.
    pub ipv4: bool,
    /// The checksum of the TCP segment.
    pub tcp: bool,
}

/// The reason why no connection was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// No network or route of the interface contains the address.
    #[error("no route of this interface leads to {0}: add a route or use another interface")]
    NoRoute(SocketAddr),
    /// No address of that family is usable, or none is yet.
    #[error("no address of this interface is usable for {0}: another host has it, or it is being probed")]
    NoAddress(SocketAddr),
    /// TCP refuses the connection.
    #[error(transparent)]
    Tcp(#[from] dst_tcp::ConnectError),
}

/// An interface with the TCP stack above it.
///
/// Each turn of the caller's poller:
///
/// 1. passes in the received frames ([`Interface::receive`]),
/// 2. passes in the time ([`Interface::on_time`]), no later than [`Interface::deadline`],
/// 3. takes out the events of the interface ([`Interface::event`]) and of TCP, reads, and queues
///    data,
/// 4. takes out frames ([`Interface::transmit`]).
///
/// `F` is a received frame, and `B` is the user's reference to data to be sent. All times are
/// microseconds of one clock that never goes back.
#[derive(Debug)]
pub struct Interface<F, B> {
    tcp: Stack<F, B>,
    link: Link,
    shard: Shard,
    /// The headers of the last segment that was not familiar.
    familiar: Option<Familiar>,
    /// The connections whose next hop does not answer, of which TCP is not told yet.
    failed: Vec<(SocketAddr, SocketAddr)>,
}

impl<F: AsRef<[u8]>, B: Payload + AsRef<[u8]>> Interface<F, B> {
    /// Returns an interface without connections. `secret` is random bytes that no other host knows.
    pub fn new(config: Config, secret: Secret, now: u64) -> Result<Interface<F, B>, ConfigError> {
        config.check()?;
        let link = Link::new(&config, secret, now);
        let mut tcp = config.tcp;
        tcp.mss = config.mtu - HEADERS;
        tcp.offload_bytes = tcp.offload_bytes.min(MAX_OFFLOAD);
        let (tcp, failed) = (Stack::new(tcp, secret), Vec::with_capacity(MAX_FAILED));
        Ok(Interface { tcp, link, shard: config.shard, familiar: None, failed })
    }

    /// Returns the TCP stack, to accept, send, read and close. Connections are opened by
    /// [`Interface::connect`].
    pub fn tcp(&mut self) -> &mut Stack<F, B> {
        &mut self.tcp
    }

    /// Returns true if the interface can connect to an address: it is another host's, and a
    /// neighbour's, or a route leads to it. It is never a group's, nor one of the loopback interface.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.link.is_source(address) && self.link.routes.next_hop(address).is_some()
    }

    /// Returns true if an address is a usable address of the interface.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.link.addresses.is_usable(address)
    }

    /// Opens a connection to `remote`, from the address that suits it best.
    /// [`Event::Connected`](dst_tcp::Event::Connected) or [`Event::Closed`](dst_tcp::Event::Closed)
    /// follows.
    pub fn connect(&mut self, remote: SocketAddr, now: u64) -> Result<ConnectionId, ConnectError> {
        if !self.reaches(remote.ip()) {
            return Err(ConnectError::NoRoute(remote));
        }
        let next_hop = self.link.routes.next_hop(remote.ip());
        let source = next_hop.and_then(|next_hop| self.link.addresses.source_for(next_hop));
        let local = SocketAddr::new(source.ok_or(ConnectError::NoAddress(remote))?, 0);
        let shard = self.shard;
        Ok(self.tcp.connect_where(local, remote, now, |local| shard.has(local, remote))?)
    }

    /// Returns which of the addresses are usable, a bit each, for [`Interface::follow`].
    pub fn usable(&self) -> u32 {
        self.link.addresses.usable()
    }

    /// Makes the addresses usable that are so in the first shard. For the other shards.
    pub fn follow(&mut self, usable: u32) {
        self.link.addresses.follow(usable);
    }

    /// Does what is due at `now`.
    pub fn on_time(&mut self, now: u64) {
        self.tcp.on_time(now);
        self.link_on_time(now);
    }

    fn link_on_time(&mut self, now: u64) {
        // Mostly nothing is due, and each burst asks.
        if self.link.deadline().is_none_or(|at| at > now) {
            return;
        }
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

    /// Returns the time by which [`Interface::on_time`] has to be called.
    pub fn deadline(&self) -> Option<u64> {
        [self.tcp.deadline(), self.link.deadline()].into_iter().flatten().min()
    }

    /// Takes out the next event of the interface. TCP has its own.
    pub fn event(&mut self) -> Option<NetEvent> {
        self.link.events.pop_front()
    }

    /// Returns the counters of the layers below TCP.
    pub fn counters(&self) -> Counters {
        self.link.counters
    }
}

fn note_failed(failed: &mut Vec<(SocketAddr, SocketAddr)>, ends: (SocketAddr, SocketAddr)) {
    if failed.len() < MAX_FAILED {
        failed.push(ends);
    }
}
