//! The resets of backends by the target, as all of its threads see them.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use dst_session::reexecution::LastReset;

/// The resets of all backends together, because a reset of one bdev may end the I/O of others (that
/// of an NVMe namespace resets the whole controller). Written by the control thread; read by groups
/// when an I/O has failed.
#[derive(Debug, Default)]
pub struct BackendResets {
    /// The number of resets under way.
    running: AtomicUsize,
    /// The time at which the last reset ended, µs, or 0 if none has.
    ended_us: AtomicU64,
}

impl BackendResets {
    /// Notes that a reset begins. To be called before the reset is submitted to the bdev.
    pub fn begin(&self) {
        self.running.fetch_add(1, Release);
    }

    /// Notes that a reset has ended. The I/O that it ended was submitted before `now_us`.
    pub fn end(&self, now_us: u64) {
        // In this order, a reader finds the reset either under way or ended.
        self.ended_us.store(now_us, Release);
        self.running.fetch_sub(1, Release);
    }

    /// Returns the state of the last reset of any backend.
    pub fn last(&self) -> LastReset {
        if self.running.load(Acquire) > 0 {
            return LastReset::UnderWay;
        }
        match self.ended_us.load(Acquire) {
            0 => LastReset::Never,
            at_us => LastReset::Ended(at_us),
        }
    }
}
