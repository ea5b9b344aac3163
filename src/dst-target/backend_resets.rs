//! The resets of backends that the target makes, as all of its threads see them.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use dst_session::reexecution::LastReset;

/// The resets of all backends together, because a reset of one bdev may end the I/O of others (an NVMe
/// namespace's resets its controller). The control thread writes; groups read when an I/O has failed.
#[derive(Debug, Default)]
pub struct BackendResets {
    /// How many are under way.
    running: AtomicUsize,
    /// When the last one ended, µs; 0: none has.
    ended_us: AtomicU64,
}

impl BackendResets {
    /// A reset begins. To be called before the bdev is told.
    pub fn begin(&self) {
        self.running.fetch_add(1, Release);
    }

    /// A reset has ended. What it ended was submitted before.
    pub fn end(&self, now_us: u64) {
        // In this order a reader finds the reset under way or ended.
        self.ended_us.store(now_us, Release);
        self.running.fetch_sub(1, Release);
    }

    /// Returns when a backend was last reset.
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
