//! The counters of a channel.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use dst_session::counts::Counts;
use dst_session::histogram::SharedHistogram;
use dst_session::transactions::Request;
use dst_wire::Class;

/// One channel's counters.
///
/// Only the channel's thread writes them. Any thread reads them, for RPCs. No other data depends on
/// a count, so `Relaxed` is enough: at worst, a reader sees a count a moment late.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transactions begun.
    pub transactions: AtomicU64,
    /// I/O that ended with an error.
    pub errors: AtomicU64,
    /// I/O among [`Counters::errors`] whose deadline had passed, or that was sent too often.
    pub expired: AtomicU64,
    /// Connections lost.
    pub lost: AtomicU64,
    /// Connections that followed a lost one.
    pub reconnects: AtomicU64,
    /// Transactions sent again.
    pub resent: AtomicU64,
    /// Transactions sent again because data did not match its digest.
    pub corrupt: AtomicU64,
    /// Transactions outstanding now.
    pub outstanding: AtomicU64,
    /// I/O that waits now, for a connection or a credit.
    pub waiting: AtomicU64,
    /// Bytes of reads that have ended.
    pub read_bytes: AtomicU64,
    /// Bytes of writes and compare-and-writes that have ended.
    pub written_bytes: AtomicU64,
    /// How long reads took, from submission to completion, µs.
    pub read_latency: SharedHistogram,
    /// How long writes and compare-and-writes took, µs.
    pub write_latency: SharedHistogram,
    /// How long everything else took, µs.
    pub other_latency: SharedHistogram,
}

impl Counters {
    /// Adds `n` to a counter that only this thread writes, without a locked instruction.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Counts an operation that has ended, with its latency.
    pub fn took(&self, request: &Request, latency_us: u64) {
        let histogram = match request.op.describe().class {
            Class::Read => {
                Counters::add(&self.read_bytes, request.answer_len.into());
                &self.read_latency
            }
            Class::Write => {
                Counters::add(&self.written_bytes, request.request_len.into());
                &self.write_latency
            }
            Class::Other => &self.other_latency,
        };
        histogram.record(latency_us);
    }

    /// Adds the present counts to `sum`.
    pub fn add_to(&self, sum: &mut Counts) {
        // There is no `..` here, so that a forgotten counter does not compile.
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
            read_bytes,
            written_bytes,
            read_latency,
            write_latency,
            other_latency,
        } = self;
        for (count, counter) in [
            (&mut sum.transactions, transactions),
            (&mut sum.errors, errors),
            (&mut sum.expired, expired),
            (&mut sum.lost, lost),
            (&mut sum.reconnects, reconnects),
            (&mut sum.resent, resent),
            (&mut sum.corrupt, corrupt),
            (&mut sum.outstanding, outstanding),
            (&mut sum.waiting, waiting),
            (&mut sum.read_bytes, read_bytes),
            (&mut sum.written_bytes, written_bytes),
        ] {
            *count += counter.load(Relaxed);
        }
        sum.read_latency.add_shared(read_latency);
        sum.write_latency.add_shared(write_latency);
        sum.other_latency.add_shared(other_latency);
    }
}
