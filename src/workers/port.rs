//! An I/O thread's side of a pool.

use std::sync::Arc;
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::ring::{Finished, Shared, Ticket};
use crate::{Job, PORT_DEPTH};

/// How long a port waits for any of its jobs before it does some itself: five times what a worker takes for 128 KiB.
/// Either the workers are what is short, then it helps; or one that counts as awake does not run, because others have
/// its CPU, then what is in the ring does not have to wait for it.
const PATIENCE: Duration = Duration::from_micros(100);

/// Hands jobs over and gets them back. It belongs to one I/O thread, which polls it for as long as anything is
/// in flight.
///
/// Dropped with jobs in flight: they are run or not, and dropped by whoever has them.
pub struct Port<J: Job> {
    shared: Arc<Shared<J>>,
    finished: Arc<Finished<J>>,
    in_flight: usize,
    /// The first poll in vain since a job came back.
    waits_since: Option<Instant>,
}

impl<J: Job> Port<J> {
    pub(crate) fn new(shared: Arc<Shared<J>>) -> Port<J> {
        Port { shared, finished: Arc::new(ArrayQueue::new(PORT_DEPTH)), in_flight: 0, waits_since: None }
    }

    /// Hands a job over. Gives it back, for the caller to run it at once, when there are no workers, when all
    /// of them nap (which ends their nap, but not soon enough for this job), or when there is no room. HOT.
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

    /// A finished job, if there is one. In any order: jobs carry what their owner needs to put them in order.
    /// HOT.
    ///
    /// With no worker awake, or none that comes to an end, it does one job of the ring itself, this port's or
    /// another's: the last worker may have left, or fallen asleep, between the look and the push of
    /// [`Port::submit`].
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

    /// Jobs that were handed over and have not been polled yet.
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
        // A job of this port's may have come into the ring after the last worker looked there for the last
        // time, and nobody may ever poll again. Either that worker sees the job or it is seen here that nobody
        // is awake: the push comes before this fence, and the worker's look after its own (in `pop`).
        fence(SeqCst);
        if self.shared.awake.load(SeqCst) == 0 {
            while let Some(ticket) = self.shared.ring.pop() {
                ticket.run();
            }
        }
    }
}
