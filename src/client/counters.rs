//! What a channel counts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use dst_session::histogram::SharedHistogram;
use dst_wire::{Class, Op};

/// One channel's counters, or the sum of several channels'.
///
/// A channel's counters are written by the channel's thread alone, and read by any thread for
/// people to look at. No other data depends on a count, so `Relaxed` is enough: a reader sees each
/// count a moment late, at worst.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions begun.
    pub transactions: AtomicU64,
    /// I/O that ended with an error.
    pub errors: AtomicU64,
    /// I/O among [`Counters::errors`] whose time was up, or that was sent too often.
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
    /// How long writes and compare-and-writes took, µs.
    pub write_latency: SharedHistogram,
    /// How long everything else took, µs.
    pub other_latency: SharedHistogram,
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

    /// Adds another's counts. This may be the sum of several threads' at once.
    pub fn add_all(&self, other: &Counters) {
        // Without `..`, so that a forgotten counter does not compile.
        let Counters {
            transactions,
            errors,
            expired,
            lost,
            reconnects,
            resent,
            corrupt,
            outstanding,
            waiting,
            read_latency,
            write_latency,
            other_latency,
        } = other;
        for (to, from) in [
            (&self.transactions, transactions),
            (&self.errors, errors),
            (&self.expired, expired),
            (&self.lost, lost),
            (&self.reconnects, reconnects),
            (&self.resent, resent),
            (&self.corrupt, corrupt),
            (&self.outstanding, outstanding),
            (&self.waiting, waiting),
        ] {
            to.fetch_add(from.load(Relaxed), Relaxed);
        }
        self.read_latency.add(read_latency);
        self.write_latency.add(write_latency);
        self.other_latency.add(other_latency);
    }
}
