//! An I/O thread's side of a pool.

use std::sync::Arc;
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::ring::{Finished, RingState, Ticket};
use crate::{Job, PORT_DEPTH};

/// How long a port waits for any of its jobs before it runs some itself: five times what a worker
/// takes for 128 KiB. Either there are too few workers, and the port helps; or a worker that counts
/// as awake does not get its CPU, and the jobs in the ring need not wait for it.
const PATIENCE: Duration = Duration::from_micros(100);

/// Hands jobs over and gets them back. A port belongs to one I/O thread, which polls it while jobs
/// are in flight.
///
/// If a port is dropped with jobs in flight, these may or may not be run, and are dropped by the
/// thread that has them.
pub struct Port<J: Job> {
    shared: Arc<RingState<J>>,
    finished: Arc<Finished<J>>,
    in_flight: usize,
    /// The time of the first unsuccessful poll since a job last came back.
    waits_since: Option<Instant>,
}

impl<J: Job> Port<J> {
    pub(crate) fn new(shared: Arc<RingState<J>>) -> Port<J> {
        Port { shared, finished: Arc::new(ArrayQueue::new(PORT_DEPTH)), in_flight: 0, waits_since: None }
    }

    /// Hands a job over. Returns it as an error, for the caller to run it at once, if there are no
    /// workers, if all of them nap (which ends their nap, but not soon enough for this job), or if
    /// there is no room. HOT.
    pub fn submit(&mut self, job: Box<J>) -> Result<(), Box<J>> {
        if self.in_flight == PORT_DEPTH {
            return Err(job);
        }
        if !self.shared.is_ready() {
            return Err(job);
        }
        let home = Arc::clone(&self.finished);
        self.shared.ring.push(Ticket { job, home }).map_err(|ticket| ticket.job)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Returns a finished job, if there is one. Jobs finish in any order and carry what their owner
    /// needs to sort them. HOT.
    ///
    /// If no worker is awake, or none finishes a job in time, the port runs one job of the ring
    /// itself, be it its own or another port's. The last worker may have left or fallen asleep
    /// between the check and the push in [`Port::submit`].
    pub fn poll(&mut self) -> Option<Box<J>> {
        if self.in_flight == 0 {
            return None;
        }
        self.take().or_else(|| {
            if self.shared.has_takers() && !self.is_impatient() {
                return None;
            }
            self.shared.ring.pop()?.run();
            self.take()
        })
    }

    /// Returns the number of jobs that were handed over and have not come back.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn take(&mut self) -> Option<Box<J>> {
        let job = self.finished.pop()?;
        self.in_flight -= 1;
        self.waits_since = None;
        Some(job)
    }

    fn is_impatient(&mut self) -> bool {
        let now = Instant::now();
        now - *self.waits_since.get_or_insert(now) >= PATIENCE
    }
}

impl<J: Job> Drop for Port<J> {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            return;
        }
        // A job of this port may have entered the ring after the last worker looked there for the
        // last time, and no port may ever poll again. Either that worker sees the job, or this
        // thread sees that no worker is awake: the push precedes this fence, and the worker looks
        // after its own fence (in `pop`).
        fence(SeqCst);
        if self.shared.awake.load(SeqCst) == 0 {
            while let Some(ticket) = self.shared.ring.pop() {
                ticket.run();
            }
        }
    }
}
