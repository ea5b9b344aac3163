//! An interface, which its users share; and the poller that keeps it alive.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dst_net::{Counters, NetEvent, Prefix};
use dst_sockets::{Connect, SocketId, Sockets};
use dst_tcp::Information;
use spdk::Result;
use spdk::clock::now_us;
use spdk::poller::Poller;
use spdk::port::PortCounters;

use crate::port::DpdkPort;

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
}

/// The interface's own poller makes a turn only if no user has made one for this long, µs: about a
/// turn of a busy reactor. Otherwise it would compete with the users' cores for the lock.
const IDLE_US: u64 = 20;

/// How long a thread that waits for a connection sleeps at most before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An interface.
#[derive(Debug)]
pub struct Interface {
    /// What the interface was created from.
    pub settings: Settings,
    sockets: Mutex<Sockets<DpdkPort>>,
    /// When the last turn was, µs.
    turned: AtomicU64,
    /// The number of threads that wait for connections, and what wakes them.
    waiting: AtomicUsize,
    attempts: Condvar,
}

impl Interface {
    pub(crate) fn new(settings: Settings, sockets: Sockets<DpdkPort>) -> Interface {
        Interface {
            settings,
            sockets: Mutex::new(sockets),
            turned: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            attempts: Condvar::new(),
        }
    }

    /// Returns the sockets, for use by this thread alone. HOT.
    pub fn sockets(&self) -> MutexGuard<'_, Sockets<DpdkPort>> {
        // A panic aborts the process, so no lock is ever poisoned.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a turn, unless another thread uses the sockets. Returns them, or `None`. HOT.
    pub fn turn(&self) -> Option<(MutexGuard<'_, Sockets<DpdkPort>>, bool)> {
        let mut sockets = self.sockets.try_lock().ok()?;
        let now = now_us();
        self.turned.store(now, Ordering::Relaxed);
        let worked = sockets.turn(now, |event| self.tell(event));
        if worked && self.waiting.load(Ordering::Relaxed) > 0 {
            self.attempts.notify_all();
        }
        Some((sockets, worked))
    }

    #[cold]
    fn tell(&self, event: NetEvent) {
        let name = &self.settings.name;
        match event {
            NetEvent::Usable(address) => spdk::info!("Interface {name} uses the address {address}"),
            NetEvent::Duplicate(address, mac) => spdk::warn!(
                "Interface {name} does not use the address {address}: the host with the link-layer address {mac} has it"
            ),
        }
    }

    /// Registers the interface's poller, on this thread.
    pub fn poller(self: &Arc<Self>) -> Result<Poller> {
        let interface = Arc::clone(self);
        Poller::register(0, move || {
            let is_idle = now_us().saturating_sub(interface.turned.load(Ordering::Relaxed)) >= IDLE_US;
            is_idle && interface.turn().is_some_and(|(_, worked)| worked)
        })
    }

    /// Waits until a connection attempt has ended. Call it on a thread that is no SPDK thread.
    pub fn wait(&self, id: SocketId) -> Connect {
        let mut sockets = self.sockets();
        loop {
            let state = sockets.attempt(id);
            if state != Connect::Pending {
                return state;
            }
            // The count changes under the lock, so no turn comes in between.
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let woken = self.attempts.wait_timeout(sockets, LOOK_AGAIN);
            sockets = woken.unwrap_or_else(PoisonError::into_inner).0;
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Deletes the interface: its connections end, and its port is closed.
    pub fn delete(&self) {
        self.sockets().delete(now_us());
        self.attempts.notify_all();
    }

    /// Returns true when it is known of all addresses whether other hosts have them.
    pub fn is_decided(&self) -> bool {
        self.sockets().is_decided()
    }

    /// Returns the connections.
    pub fn connections(&self) -> Vec<Information> {
        self.sockets().connections()
    }

    /// Returns the counters of the interface, of TCP and of the port.
    pub fn counters(&self) -> Option<(Counters, dst_tcp::Counters, PortCounters)> {
        let mut sockets = self.sockets();
        let (interface, tcp, port) = sockets.counters()?;
        Some((interface, tcp, port.counters()))
    }

    /// Returns true if the interface has an address, be it usable or not.
    pub fn has(&self, address: IpAddr) -> bool {
        self.settings.addresses.iter().any(|prefix| prefix.address == address)
    }

    /// Returns true if the interface can connect to an address.
    pub fn reaches(&self, remote: SocketAddr) -> bool {
        self.sockets().reaches(remote.ip())
    }
}
