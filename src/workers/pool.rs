//! Which workers there are.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_queue::ArrayQueue;

use crate::port::Port;
use crate::ring::Shared;
use crate::worker::{self, Seat, WorkerStats};
use crate::{Job, RING, WORKERS_MAX, WorkersError};

/// Puts a thread on a CPU, and says why if it cannot. Called where the workers are set, not on the thread.
pub type Pin = fn(&JoinHandle<()>, u32) -> Result<(), String>;

/// A pool of workers for one kind of job. Clones are handles of the same pool; with the last one the workers
/// go. Any thread.
pub struct Pool<J: Job> {
    control: Arc<Control<J>>,
}

impl<J: Job> Clone for Pool<J> {
    fn clone(&self) -> Pool<J> {
        Pool { control: Arc::clone(&self.control) }
    }
}

struct Control<J: Job> {
    shared: Arc<Shared<J>>,
    pin: Pin,
    /// Held while workers come and go, so that one caller at a time changes them.
    workers: Mutex<Vec<Worker>>,
}

/// A worker, as the pool sees it.
struct Worker {
    seat: Arc<Seat>,
    thread: JoinHandle<()>,
}

impl<J: Job> Pool<J> {
    /// A pool without workers, and with its ring.
    pub fn new(pin: Pin) -> Pool<J> {
        let shared = Arc::new(Shared {
            ring: ArrayQueue::new(RING),
            awake: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
            workers: AtomicUsize::new(0),
        });
        Pool { control: Arc::new(Control { shared, pin, workers: Mutex::default() }) }
    }

    /// One worker on each of `cpus`, of which none twice, and none elsewhere. Workers on a CPU that stays are
    /// not touched; new ones work before old ones go.
    ///
    /// Waits for none of them. A CPU that others use can keep a thread from running for longer than the caller, on
    /// a reactor's thread, can be away: seconds were seen. So new workers help from when they are there, and one
    /// that goes does so after the job that it has in hand, the last of all after those in the ring.
    ///
    /// # Errors
    /// All workers are as before.
    pub fn set_cpus(&self, cpus: &[u32]) -> Result<(), WorkersError> {
        let mut cpus = cpus.to_vec();
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.len() > WORKERS_MAX {
            return Err(WorkersError::TooMany(cpus.len()));
        }
        let Control { shared, pin, workers } = &*self.control;
        let mut workers = lock(workers);
        let new = cpus.iter().filter(|cpu| !workers.iter().any(|worker| worker.seat.cpu == **cpu));
        let hired = hire(shared, *pin, new.copied())?;
        let (kept, gone) = workers.drain(..).partition(|worker| cpus.contains(&worker.seat.cpu));
        *workers = kept;
        workers.extend(hired);
        workers.sort_unstable_by_key(|worker| worker.seat.cpu);
        shared.workers.store(workers.len(), Relaxed);
        dismiss(gone);
        Ok(())
    }

    /// How many workers there are. HOT.
    pub fn workers(&self) -> usize {
        self.control.shared.workers.load(Relaxed)
    }

    /// Whether a worker is awake to take a job now. For who has one, and does it better without packing it up if
    /// that is for nothing: no worker is awake for long without being asked, here or by a submission. HOT.
    pub fn is_ready(&self) -> bool {
        self.control.shared.is_ready()
    }

    /// A new port. One for each I/O thread, which polls it for as long as it has anything in flight.
    pub fn port(&self) -> Port<J> {
        Port::new(Arc::clone(&self.control.shared))
    }

    /// What each worker has done, in the order of their CPUs.
    pub fn stats(&self) -> Vec<WorkerStats> {
        lock(&self.control.workers).iter().map(|worker| worker.seat.stats()).collect()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared<J>> {
        &self.control.shared
    }
}

impl<J: Job> Drop for Control<J> {
    fn drop(&mut self) {
        self.shared.workers.store(0, Relaxed);
        dismiss(std::mem::take(&mut *lock(&self.workers)));
    }
}

/// Starts a worker on each of `cpus`; all of them or none.
fn hire<J: Job>(
    shared: &Arc<Shared<J>>,
    pin: Pin,
    cpus: impl Iterator<Item = u32>,
) -> Result<Vec<Worker>, WorkersError> {
    let mut hired = Vec::new();
    for cpu in cpus {
        let begun = start(shared, cpu).and_then(|worker| {
            let pinned = pin(&worker.thread, cpu);
            hired.push(worker);
            pinned.map_err(|problem| WorkersError::Pin { cpu, problem })
        });
        if let Err(error) = begun {
            dismiss(hired);
            return Err(error);
        }
    }
    Ok(hired)
}

fn start<J: Job>(shared: &Arc<Shared<J>>, cpu: u32) -> Result<Worker, WorkersError> {
    let seat = Arc::new(Seat::new(cpu));
    let life = {
        let (shared, seat) = (Arc::clone(shared), Arc::clone(&seat));
        move || worker::work(&shared, &seat)
    };
    // Linux shows 15 characters of the name.
    let thread = thread::Builder::new().name(format!("dst_crypto_{cpu}")).spawn(life);
    let thread = thread.map_err(|error| WorkersError::Spawn { cpu, problem: error.to_string() })?;
    Ok(Worker { seat, thread })
}

/// Tells workers to go, each after the job that it has in hand.
fn dismiss(workers: Vec<Worker>) {
    for worker in workers {
        worker.seat.leave();
        worker.thread.thread().unpark();
    }
}

/// A panic while it is held leaves the list as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
