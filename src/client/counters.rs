//! What a channel counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use dst_session::durability::Written;
use dst_session::histogram::SharedHistogram;
use dst_wire::{Class, Op};

/// One channel's counters. Its thread alone writes them; others may read.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions begun.
    pub transactions: AtomicU64,
    /// I/O that ended with an error.
    pub errors: AtomicU64,
    /// Those of them whose time was up.
    pub expired: AtomicU64,
    /// Connections lost.
    pub lost: AtomicU64,
    /// Connections made after one was lost.
    pub reconnects: AtomicU64,
    /// Transactions sent again.
    pub resent: AtomicU64,
    /// Transactions sent again because data did not match its digest.
    pub corrupt: AtomicU64,
    /// Transactions outstanding now.
    pub outstanding: AtomicU64,
    /// I/O that waits now, for a connection or a credit.
    pub waiting: AtomicU64,
    /// How long reads took, from submission to completion, µs.
    pub read_latency: SharedHistogram,
    /// How long writes and compare-and-writes took.
    pub write_latency: SharedHistogram,
    /// How long everything else took.
    pub other_latency: SharedHistogram,
    /// A change of the session ([`crate::shared::Shared::session_changes`]) since which the channel has had no
    /// connection of a session before.
    pub session_change: AtomicU64,
    /// Up to which of the bdev's resets ([`crate::shared::Shared::resets`]) it has ended what it had.
    pub resets_joined: AtomicU64,
    /// The newest write.
    pub written: Written,
}

impl Counters {
    /// Adds to a counter that only this thread writes: no bus lock.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Counts how long an operation took.
    pub fn took(&self, op: Op, latency_us: u64) {
        let histogram = match op.describe().class {
            Class::Read => &self.read_latency,
            Class::Write => &self.write_latency,
            Class::Other => &self.other_latency,
        };
        histogram.record(latency_us);
    }

    /// Adds another's counts, from any thread.
    pub fn add_all(&self, other: &Counters) {
        for (to, from) in [
            (&self.transactions, &other.transactions),
            (&self.errors, &other.errors),
            (&self.expired, &other.expired),
            (&self.lost, &other.lost),
            (&self.reconnects, &other.reconnects),
            (&self.resent, &other.resent),
            (&self.corrupt, &other.corrupt),
            (&self.outstanding, &other.outstanding),
            (&self.waiting, &other.waiting),
        ] {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        self.read_latency.add(&other.read_latency);
        self.write_latency.add(&other.write_latency);
        self.other_latency.add(&other.other_latency);
        self.written.inherit(&other.written);
    }
}
