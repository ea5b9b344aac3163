//! The ring of submitted jobs, which ports and workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crossbeam_queue::ArrayQueue;

use crate::Job;

/// Where a port's finished jobs wait for it. It outlives the port for as long as jobs are under way.
pub(crate) type Finished<J> = ArrayQueue<Box<J>>;

/// A submitted job, and who gets it back.
pub(crate) struct Ticket<J> {
    pub job: Box<J>,
    pub home: Arc<Finished<J>>,
}

impl<J: Job> Ticket<J> {
    /// Does the job and gives it back. HOT.
    pub fn run(mut self) {
        self.job.run();
        // Dropping it instead would leave its port waiting for ever.
        assert!(self.home.push(self.job).is_ok(), "a port has no more under way than its ring can hold");
    }
}

/// What workers and ports see of a pool.
pub(crate) struct Shared<J> {
    pub ring: ArrayQueue<Ticket<J>>,
    /// Workers that look at the ring now. Not those that nap.
    pub awake: AtomicUsize,
    /// Somebody had a job and found no worker awake.
    pub wanted: AtomicBool,
    /// Workers, napping or not; without those that were told to leave.
    pub workers: AtomicUsize,
}

impl<J> Shared<J> {
    /// Whether somebody takes jobs from the ring now, and will go on. HOT.
    pub fn has_takers(&self) -> bool {
        self.awake.load(Relaxed) > 0 && self.workers.load(Relaxed) > 0
    }

    /// The same, for who has a job: if all workers nap, one is told to wake up. HOT.
    pub fn is_ready(&self) -> bool {
        let is_ready = self.has_takers();
        // The look first: several I/O threads can have the line in their caches as long as none writes it.
        if !is_ready && !self.wanted.load(Relaxed) {
            self.wanted.store(true, Relaxed);
        }
        is_ready
    }
}
