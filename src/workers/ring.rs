//! The ring of submitted jobs, which ports and workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crossbeam_queue::ArrayQueue;

use crate::Job;

/// The ring of a port's finished jobs. It outlives the port while jobs are under way.
pub(crate) type Finished<J> = ArrayQueue<Box<J>>;

/// A submitted job, and the ring of its port.
pub(crate) struct Ticket<J> {
    pub job: Box<J>,
    pub home: Arc<Finished<J>>,
}

impl<J: Job> Ticket<J> {
    /// Runs the job and returns it to its port. HOT.
    pub fn run(mut self) {
        self.job.run();
        // If the job were dropped, its port would wait for ever.
        assert!(self.home.push(self.job).is_ok(), "a port has no more jobs under way than its ring can hold");
    }
}

/// The state that workers and ports share.
pub(crate) struct RingState<J> {
    pub ring: ArrayQueue<Ticket<J>>,
    /// The number of workers that look at the ring now, without those that nap.
    pub awake: AtomicUsize,
    /// Whether an I/O thread had a job and found no worker awake.
    pub wanted: AtomicBool,
    /// The number of workers, napping or not, without those that were told to leave.
    pub workers: AtomicUsize,
}

impl<J> RingState<J> {
    /// Returns whether a worker takes jobs from the ring now and will continue to. HOT.
    pub fn has_takers(&self) -> bool {
        self.awake.load(Relaxed) > 0 && self.workers.load(Relaxed) > 0
    }

    /// Returns the same, for callers that have a job: if all workers nap, one is told to wake up.
    /// HOT.
    pub fn is_ready(&self) -> bool {
        let is_ready = self.has_takers();
        // The flag is read first, because several I/O threads can share the cache line as long as
        // none writes it.
        if !is_ready && !self.wanted.load(Relaxed) {
            self.wanted.store(true, Relaxed);
        }
        is_ready
    }
}
