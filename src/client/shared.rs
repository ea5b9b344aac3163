//! What the control thread and a bdev's channels, on whatever threads, have in common.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dst_wire::{Device, Hello, SessionRef, VERSION};

use crate::options::{Options, Peer};

/// One channel's counters. Its thread alone writes them; others may read.
#[derive(Debug, Default)]
pub struct Counters {
    /// Whether its connection is up.
    pub connected: AtomicBool,
    /// Transactions begun.
    pub transactions: AtomicU64,
    /// Transactions that ended with an error.
    pub errors: AtomicU64,
    /// Connections lost.
    pub lost: AtomicU64,
    /// Connections made after one was lost.
    pub reconnects: AtomicU64,
    /// Transactions sent again.
    pub resent: AtomicU64,
}

impl Counters {
    /// Adds to a counter that only this thread writes: no bus lock.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds another's counts, from any thread.
    pub fn add_all(&self, other: &Counters) {
        for (to, from) in [
            (&self.transactions, &other.transactions),
            (&self.errors, &other.errors),
            (&self.lost, &other.lost),
            (&self.reconnects, &other.reconnects),
            (&self.resent, &other.resent),
        ] {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
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
    device: Mutex<Option<Device>>,
    session: Mutex<Option<[u8; 16]>>,
    next_queue: AtomicU16,
    counters: Mutex<Vec<Arc<Counters>>>,
    /// Sums of channels that are gone.
    pub past: Counters,
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
            device: Mutex::new(None),
            session: Mutex::new(None),
            next_queue: AtomicU16::new(1),
            counters: Mutex::new(Vec::new()),
            past: Counters::default(),
        }
    }

    /// What the target said of the device, once it did.
    pub fn device(&self) -> Option<Device> {
        *lock(&self.device)
    }

    pub fn set_device(&self, device: Device) {
        *lock(&self.device) = Some(device);
    }

    /// The session that channels join.
    pub fn session(&self) -> Option<[u8; 16]> {
        *lock(&self.session)
    }

    pub fn set_session(&self, id: Option<[u8; 16]>) {
        *lock(&self.session) = id;
    }

    /// A number for a new channel's queue, 1 to 65,535. After as many channels numbers come again; the
    /// target then hands the queue over from a channel that is long gone.
    pub fn next_queue(&self) -> u16 {
        loop {
            let queue = self.next_queue.fetch_add(1, Ordering::Relaxed);
            if queue != 0 {
                return queue;
            }
        }
    }

    /// Counters of a new channel.
    pub fn add_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        lock(&self.counters).push(Arc::clone(&counters));
        counters
    }

    /// A channel is gone: its counts stay in the sum.
    pub fn remove_counters(&self, gone: &Arc<Counters>) {
        lock(&self.counters).retain(|counters| !Arc::ptr_eq(counters, gone));
        self.past.add_all(gone);
    }

    /// The counters of all channels.
    pub fn counters(&self) -> Vec<Arc<Counters>> {
        lock(&self.counters).clone()
    }

    /// The hello for a connection: the session's first when `queue` is none.
    pub fn hello(&self, session: Option<SessionRef>) -> Hello {
        Hello {
            versions: (VERSION, VERSION),
            export: self.peer.export.clone(),
            host: self.peer.host.clone(),
            session,
            previous: None,
            credits: self.options.queue_depth,
            digests: vec![dst_wire::Digest::None as u8],
            ciphers: vec![dst_wire::Cipher::None as u8],
            keep_alive_ms: self.options.keep_alive_timeout_ms,
        }
    }
}
