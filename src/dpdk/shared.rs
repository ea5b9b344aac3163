//! The sockets of an interface, or of a shard of one, as threads share them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dst_net::NetEvent;
use dst_sockets::{Connect, SocketId, Sockets};
use spdk::clock::now_us;
use spdk::sock_impl::Lent;

use crate::port::DpdkPort;

/// The interface's own poller makes a turn only if no user has made one for this long, µs: about a
/// turn of a busy reactor. Otherwise it would compete with the users' cores for the lock.
const IDLE_US: u64 = 20;

/// How long a thread that waits for a connection sleeps at most before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The sockets of an interface, or of a shard of one.
pub(crate) type DpdkSockets = Sockets<DpdkPort, Lent>;

/// Sockets with a lock.
#[derive(Debug)]
pub struct SharedSockets {
    /// The name of the interface.
    name: Arc<str>,
    /// The number of the shard, which no other one of the process has had, if the interface has several:
    /// the sockets are best used by one thread.
    pub placement: Option<i32>,
    sockets: Mutex<DpdkSockets>,
    /// When the last turn was, µs.
    turned: AtomicU64,
    /// The number of threads that wait for connections, and what wakes them.
    waiting: AtomicUsize,
    attempts: Condvar,
}

impl SharedSockets {
    pub fn new(name: &Arc<str>, placement: Option<i32>, sockets: DpdkSockets) -> SharedSockets {
        SharedSockets {
            name: Arc::clone(name),
            placement,
            sockets: Mutex::new(sockets),
            turned: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            attempts: Condvar::new(),
        }
    }

    /// Returns the sockets, for use by this thread alone. HOT.
    pub fn lock(&self) -> MutexGuard<'_, DpdkSockets> {
        // A panic aborts the process, so no lock is ever poisoned.
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the same, unless another thread uses them.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, DpdkSockets>> {
        self.sockets.try_lock().ok()
    }

    /// Makes a turn, unless another thread uses the sockets. Returns them, or `None`. HOT.
    pub fn turn(&self) -> Option<(MutexGuard<'_, DpdkSockets>, bool)> {
        let mut sockets = self.try_lock()?;
        let now = now_us();
        self.turned.store(now, Ordering::Relaxed);
        let worked = sockets.turn(now, |event| self.tell(event));
        if worked && self.waiting.load(Ordering::Relaxed) > 0 {
            self.attempts.notify_all();
        }
        Some((sockets, worked))
    }

    /// Makes a turn if nobody else has made one for a while. Returns true if there was something to do.
    pub fn turn_if_idle(&self) -> bool {
        let is_idle = now_us().saturating_sub(self.turned.load(Ordering::Relaxed)) >= IDLE_US;
        is_idle && self.turn().is_some_and(|(_, worked)| worked)
    }

    #[cold]
    fn tell(&self, event: NetEvent) {
        let name = &self.name;
        match event {
            NetEvent::Usable(address) => spdk::info!("Interface {name} uses the address {address}"),
            NetEvent::Duplicate(address, mac) => spdk::warn!(
                "Interface {name} does not use the address {address}: the host with the link-layer address {mac} has it"
            ),
        }
    }

    /// Waits until a connection attempt has ended. Call it on a thread that is no SPDK thread.
    pub fn wait(&self, id: SocketId) -> Connect {
        let mut sockets = self.lock();
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

    /// Ends all sockets, and gives the queue pair of the port back.
    pub fn delete(&self) {
        self.lock().delete(now_us());
        self.attempts.notify_all();
    }

    /// Returns true if there is a way to an address.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.lock().reaches(address)
    }
}
