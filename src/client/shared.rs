//! What the control thread and a bdev's channels, on whatever threads, have in common.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dst_session::durability::Durability;
use dst_wire::secure::Offer;
use dst_wire::{Device, Hello, Previous, SessionRef, VERSION};

use crate::counters::Counters;
use crate::options::{Options, Peer};

/// How often attempts that go on failing are logged again.
const LOG_PERIOD_US: u64 = 10_000_000;

/// The session that channels join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: [u8; 16],
    /// Which of the target's starts it belongs to, as [`Durability`] counts them.
    pub start: u64,
}

/// A bdev's constant facts, and the few that change. The locks are for the control path only.
#[derive(Debug)]
pub struct Shared {
    /// The bdev's name.
    pub name: String,
    /// Where its blocks are.
    pub peer: Peer,
    /// Times and depths.
    pub options: Options,
    /// Set when the bdev is going away: I/O of a lost target need not wait any more.
    pub closing: AtomicBool,
    /// Set when the device can't be had any more (another one is there, or it was removed): I/O fails.
    pub failed: AtomicBool,
    /// Set by a channel that the target told that there is no such session: control looks into it.
    pub doubted: AtomicBool,
    /// Set by a channel whose I/O has to fail although the backend may have it: control gives the session up.
    pub given_up: AtomicBool,
    /// Counts the resets: every channel ends what it has.
    pub resets: AtomicU64,
    /// What a restart of the target may have lost.
    pub durability: Durability,
    /// Most bytes of one request that SPDK will give us: no more than the target took when the bdev was made.
    pub longest: AtomicU32,
    device: Mutex<Option<Device>>,
    session: Mutex<Option<Session>>,
    /// Counts the changes of `session`, so that channels see one without the lock.
    session_changes: AtomicU64,
    /// The address in use, an index.
    address: AtomicUsize,
    /// When the last lease of the channels' lost connections is over.
    leases_over_us: AtomicU64,
    next_epoch: AtomicU32,
    queues: Mutex<Queues>,
    counters: Mutex<Vec<Arc<Counters>>>,
    /// Why the last attempt to connect failed, or the device can't be had any more; none when all connections are there.
    last_error: Mutex<Option<String>>,
    /// When a failed attempt is logged again.
    next_log_us: AtomicU64,
    /// How many channels there are, and how many of them are connected.
    pub channels: AtomicUsize,
    pub connected: AtomicUsize,
    /// Sums of channels that are gone.
    pub past: Counters,
}

/// Which numbers the channels' queues have.
#[derive(Debug, Default)]
struct Queues {
    in_use: BTreeSet<u16>,
    last: u16,
}

/// A lock whose data is valid whatever became of the thread that had it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(name: String, peer: Peer, options: Options) -> Shared {
        Shared {
            name,
            peer,
            options,
            closing: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            resets: AtomicU64::new(0),
            durability: Durability::default(),
            longest: AtomicU32::new(0),
            device: Mutex::new(None),
            session: Mutex::new(None),
            session_changes: AtomicU64::new(0),
            address: AtomicUsize::new(0),
            leases_over_us: AtomicU64::new(0),
            // The connection that opens a session has epoch 0.
            next_epoch: AtomicU32::new(1),
            queues: Mutex::default(),
            counters: Mutex::new(Vec::new()),
            last_error: Mutex::default(),
            next_log_us: AtomicU64::new(0),
            channels: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            past: Counters::default(),
        }
    }

    /// An attempt to connect failed, of whichever connection. One that goes on failing is logged now and then.
    pub fn attempt_failed(&self, why: String, now_us: u64) {
        let next_us = self.next_log_us.load(Relaxed);
        if now_us >= next_us
            && self.next_log_us.compare_exchange(next_us, now_us + LOG_PERIOD_US, Relaxed, Relaxed).is_ok()
        {
            let addrs: Vec<String> = self.peer.addrs.iter().map(ToString::to_string).collect();
            spdk::warn!(
                "DST bdev {}: target {} port {} not reached ({why}), trying again",
                self.name,
                addrs.join(" or "),
                self.peer.port
            );
        }
        *lock(&self.last_error) = Some(why);
    }

    /// The device can't be had any more.
    pub fn fail(&self, why: &str) {
        if !self.failed.swap(true, Relaxed) {
            spdk::error!(
                "DST bdev {}: {why}; its I/O fails, until the bdev is deleted and made anew",
                self.name
            );
        }
        *lock(&self.last_error) = Some(why.to_owned());
    }

    /// All connections are there.
    pub fn forget_error(&self) {
        *lock(&self.last_error) = None;
    }

    /// Why the last attempt to connect failed.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// What the target last said of the device, once it did. SPDK may have refused its size.
    pub fn device(&self) -> Option<Device> {
        *lock(&self.device)
    }

    pub fn set_device(&self, device: Device) {
        *lock(&self.device) = Some(device);
    }

    /// The session that channels join.
    pub fn session(&self) -> Option<Session> {
        *lock(&self.session)
    }

    /// Changes it. Control only.
    pub fn set_session(&self, session: Option<Session>) {
        let mut current = lock(&self.session);
        *current = session;
        self.session_changes.fetch_add(1, Release);
    }

    /// Another number after each change of the session. HOT.
    pub fn session_changes(&self) -> u64 {
        self.session_changes.load(Acquire)
    }

    /// The change by which `session` was left behind; a later one will do. `None`: it is the session still.
    pub fn left_since(&self, session: Session) -> Option<u64> {
        let current = lock(&self.session);
        (*current != Some(session)).then(|| self.session_changes())
    }

    /// The address to connect to.
    pub fn address(&self) -> IpAddr {
        self.peer.addrs[self.address.load(Relaxed)]
    }

    /// The address in use does not answer: the next one is. Whether all were tried by that.
    pub fn next_address(&self) -> bool {
        let next = (self.address.load(Relaxed) + 1) % self.peer.addrs.len();
        self.address.store(next, Relaxed);
        next == 0
    }

    /// A channel has lost its connection, on which something may be executed until then. Called before the
    /// channel counts as not connected.
    pub fn lease_until(&self, over_us: u64) {
        self.leases_over_us.fetch_max(over_us, Release);
    }

    /// From when on nothing is executed that channels sent on connections that they have lost; `None` while
    /// one of them has a connection.
    pub fn leases_over_us(&self) -> Option<u64> {
        (self.connected.load(Acquire) == 0).then(|| self.leases_over_us.load(Acquire))
    }

    /// A number for a new channel's queue, 1 to 65,535, that no other channel has; `None`: all are in use.
    pub fn take_queue(&self) -> Option<u16> {
        let queues = &mut *lock(&self.queues);
        if queues.in_use.len() >= usize::from(u16::MAX) {
            return None;
        }
        // Not the lowest free one: the target may not have heard yet that its last user is gone.
        loop {
            queues.last = queues.last.checked_add(1).unwrap_or(1);
            if queues.in_use.insert(queues.last) {
                return Some(queues.last);
            }
        }
    }

    /// Counters of a new channel.
    pub fn add_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        lock(&self.counters).push(Arc::clone(&counters));
        self.channels.fetch_add(1, Relaxed);
        counters
    }

    /// A channel is gone: its counts stay in the sum.
    pub fn remove_channel(&self, queue: u16, gone: &Arc<Counters>) {
        lock(&self.queues).in_use.remove(&queue);
        self.past.add_all(gone);
        lock(&self.counters).retain(|counters| !Arc::ptr_eq(counters, gone));
        self.channels.fetch_sub(1, Relaxed);
    }

    /// The counters of all channels.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        lock(&self.counters).clone()
    }

    /// The hello that opens a session, in place of the previous one if there was one.
    pub fn hello_open(&self, previous: Option<Previous>) -> Hello {
        self.hello(None, previous)
    }

    /// The hello that joins a session. Each has a newer epoch than all before, because the target may have
    /// had one whose welcome never came.
    pub fn hello_join(&self, id: [u8; 16], queue: u16) -> Hello {
        let epoch = self.next_epoch.fetch_add(1, Relaxed);
        self.hello(Some(SessionRef { id, queue, epoch }), None)
    }

    /// What a connection is to be secured with.
    pub fn offer(&self) -> Offer {
        Offer {
            versions: (VERSION, VERSION),
            export: self.peer.export.clone(),
            host: self.peer.host.clone(),
            ciphers: self.peer.ciphers.iter().map(|&cipher| cipher as u8).collect(),
        }
    }

    fn hello(&self, session: Option<SessionRef>, previous: Option<Previous>) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            export: self.peer.export.clone(),
            host: self.peer.host.clone(),
            session,
            previous,
            credits: self.options.queue_depth,
            digests: self.peer.digests.iter().map(|&digest| digest as u8).collect(),
            ciphers: self.peer.ciphers.iter().map(|&cipher| cipher as u8).collect(),
            keep_alive_ms: self.options.keep_alive_timeout_ms,
        }
    }
}
