//! An interface, which its users share; and the poller that keeps it alive.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dst_net::Prefix;
use dst_sockets::SocketsCounters;
use dst_tcp::Information;
use spdk::Result;
use spdk::poller::Poller;
use spdk::port::PortCounters;
use spdk::thread::core_index;

use crate::shared::{DpdkSockets, SharedSockets};

/// What an interface is created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of the interface.
    pub name: String,
    /// The port: a vdev with its arguments, or a PCI address.
    pub port: String,
    /// The addresses, with the prefixes of their networks.
    pub addresses: Vec<Prefix>,
    /// The routers of everything beyond those networks, at most one for IPv4 and one for IPv6.
    pub gateways: Vec<IpAddr>,
    /// The maximum length of an IP packet in bytes.
    pub mtu: u16,
    /// The VLAN of all frames, if they have a tag.
    pub vlan: Option<u16>,
    /// The queue pairs of the port. `None`: one for each reactor, as far as the port has them.
    pub queues: Option<u16>,
}

/// An interface.
#[derive(Debug)]
pub struct Interface {
    /// What the interface was created from.
    pub settings: Settings,
    /// One for each queue pair of the port.
    shards: Box<[Arc<SharedSockets>]>,
    /// The shard of the next connection that no reactor opens.
    next: AtomicUsize,
}

/// The placements that the shards of the process have had.
static PLACEMENTS: AtomicUsize = AtomicUsize::new(0);

/// The maximum number of placements. With more interfaces than that in a process's life, shards share
/// them, which costs speed only.
const PLACEMENTS_MAX: usize = 1 << 20;

impl Interface {
    /// Returns an interface with these shards.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn new(settings: Settings, shards: Vec<DpdkSockets>) -> Interface {
        assert!(!shards.is_empty(), "a port has a queue pair");
        let name = settings.name.as_str().into();
        let is_one = shards.len() == 1;
        let place = || PLACEMENTS.fetch_add(1, Ordering::Relaxed) % PLACEMENTS_MAX + 1;
        let placement = || (!is_one).then(|| i32::try_from(place()).expect("it is small"));
        let share = |sockets| Arc::new(SharedSockets::new(&name, placement(), sockets));
        let shards = shards.into_iter().map(share).collect();
        Interface { settings, shards, next: AtomicUsize::new(0) }
    }

    /// Returns the sockets of all shards.
    pub fn shards(&self) -> &[Arc<SharedSockets>] {
        &self.shards
    }

    /// Returns the shard for a new connection: that of the reactor, or on other OS threads the next one.
    pub fn shard_for_connection(&self) -> &Arc<SharedSockets> {
        let index = match &*self.shards {
            [_] => 0,
            _ => core_index().unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed)),
        };
        &self.shards[index % self.shards.len()]
    }

    /// Makes a turn of each shard. Returns true if there was something to do.
    pub fn turn(&self) -> bool {
        self.shards.iter().fold(false, |worked, shard| shard.turn().is_some_and(|(_, did)| did) | worked)
    }

    /// Registers the interface's poller, on this thread.
    pub fn poller(self: &Arc<Self>) -> Result<Poller> {
        let interface = Arc::clone(self);
        Poller::register(0, move || {
            interface.shards.iter().fold(false, |worked, shard| shard.turn_if_idle() | worked)
        })
    }

    /// Deletes the interface: its connections end, and its port is closed.
    pub fn delete(&self) {
        self.shards.iter().for_each(|shard| shard.delete());
    }

    /// Returns true when it is known of all addresses whether other hosts have them.
    pub fn is_decided(&self) -> bool {
        self.shards[0].lock().is_decided()
    }

    /// Returns the connections, each with the place of its queue pair among the port's.
    pub fn connections(&self) -> Vec<(usize, Information)> {
        let of = |(queue, shard): (usize, &Arc<SharedSockets>)| {
            let found = shard.lock().connections();
            found.into_iter().map(move |information| (queue, information))
        };
        self.shards.iter().enumerate().flat_map(of).collect()
    }

    /// Returns the counters of each queue pair: of its sockets, and of the port. There are none once the
    /// interface was deleted.
    pub fn counters(&self) -> Vec<(SocketsCounters, PortCounters)> {
        let of = |shard: &Arc<SharedSockets>| {
            let mut sockets = shard.lock();
            let (counters, port) = sockets.counters()?;
            Some((counters, port.counters()))
        };
        self.shards.iter().filter_map(of).collect()
    }

    /// Returns true if the interface has an address, be it usable or not.
    pub fn has(&self, address: IpAddr) -> bool {
        self.settings.addresses.iter().any(|prefix| prefix.address == address)
    }

    /// Returns true if the interface can connect to an address.
    pub fn reaches(&self, remote: SocketAddr) -> bool {
        self.shards[0].reaches(remote.ip())
    }
}
