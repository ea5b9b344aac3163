//! The pool: the set of workers, and the ring of jobs that they share.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_queue::ArrayQueue;

use crate::port::Port;
use crate::ring::RingState;
use crate::worker::{self, WorkerState, WorkerStats};
use crate::{Job, RING, WORKERS_MAX, WorkersError};

/// Pins a thread to a CPU, or returns the reason why it could not. Called by the thread that sets
/// the workers, not on the pinned thread.
pub type Pin = fn(&JoinHandle<()>, u32) -> Result<(), String>;

/// A pool of workers for one kind of job. Clones are handles to the same pool; dropping the last
/// one ends the workers. Any thread may use it.
pub struct Pool<J: Job> {
    control: Arc<Control<J>>,
}

impl<J: Job> Clone for Pool<J> {
    fn clone(&self) -> Pool<J> {
        Pool { control: Arc::clone(&self.control) }
    }
}

struct Control<J: Job> {
    shared: Arc<RingState<J>>,
    pin: Pin,
    /// The workers. The lock is held while they are changed, so that only one caller at a time
    /// changes them.
    workers: Mutex<Vec<Worker>>,
}

/// The pool's side of a worker.
struct Worker {
    state: Arc<WorkerState>,
    thread: JoinHandle<()>,
}

impl<J: Job> Pool<J> {
    /// Creates a pool with its ring and without workers.
    pub fn new(pin: Pin) -> Pool<J> {
        let shared = Arc::new(RingState {
            ring: ArrayQueue::new(RING),
            awake: AtomicUsize::new(0),
            wanted: AtomicBool::new(false),
            workers: AtomicUsize::new(0),
        });
        Pool { control: Arc::new(Control { shared, pin, workers: Mutex::default() }) }
    }

    /// Runs one worker on each of `cpus` and none elsewhere. Duplicates count once. Workers on CPUs
    /// that remain in the set are not touched; new workers start before old ones leave.
    ///
    /// The call does not wait for any worker. On a CPU that other threads use, a thread may not run
    /// for seconds, longer than a reactor's thread can wait. New workers therefore help as soon as
    /// they run. A worker that leaves finishes its current job first, and the very last worker also
    /// the jobs in the ring.
    ///
    /// # Errors
    /// See [`WorkersError`]. After an error, the workers are as before.
    pub fn set_cpus(&self, cpus: &[u32]) -> Result<(), WorkersError> {
        let mut cpus = cpus.to_vec();
        cpus.sort_unstable();
        cpus.dedup();
        if cpus.len() > WORKERS_MAX {
            return Err(WorkersError::TooMany(cpus.len()));
        }
        let Control { shared, pin, workers } = &*self.control;
        let mut workers = lock(workers);
        let new = cpus.iter().filter(|cpu| !workers.iter().any(|worker| worker.state.cpu == **cpu));
        let hired = hire(shared, *pin, new.copied())?;
        let (kept, gone) = workers.drain(..).partition(|worker| cpus.contains(&worker.state.cpu));
        *workers = kept;
        workers.extend(hired);
        workers.sort_unstable_by_key(|worker| worker.state.cpu);
        shared.workers.store(workers.len(), Relaxed);
        dismiss(gone);
        Ok(())
    }

    /// Returns the number of workers. HOT.
    pub fn workers(&self) -> usize {
        self.control.shared.workers.load(Relaxed)
    }

    /// Returns whether a worker is awake to take a job now. For callers that have a job, and save
    /// the cost of preparing it if no worker would take it. Workers stay awake only while this is
    /// asked or jobs are submitted. HOT.
    pub fn is_ready(&self) -> bool {
        self.control.shared.is_ready()
    }

    /// Creates a port. Each I/O thread has one, and polls it while jobs are in flight.
    pub fn port(&self) -> Port<J> {
        Port::new(Arc::clone(&self.control.shared))
    }

    /// Returns the statistics of each worker, in the order of their CPUs.
    pub fn stats(&self) -> Vec<WorkerStats> {
        lock(&self.control.workers).iter().map(|worker| worker.state.stats()).collect()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<RingState<J>> {
        &self.control.shared
    }
}

impl<J: Job> Drop for Control<J> {
    fn drop(&mut self) {
        self.shared.workers.store(0, Relaxed);
        dismiss(std::mem::take(&mut *lock(&self.workers)));
    }
}

/// Starts a worker on each of `cpus`: all of them, or none.
fn hire<J: Job>(
    shared: &Arc<RingState<J>>,
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

fn start<J: Job>(shared: &Arc<RingState<J>>, cpu: u32) -> Result<Worker, WorkersError> {
    let state = Arc::new(WorkerState::new(cpu));
    let life = {
        let (shared, state) = (Arc::clone(shared), Arc::clone(&state));
        move || worker::work(&shared, &state)
    };
    // Linux shows at most 15 characters of the name.
    let thread = thread::Builder::new().name(format!("dst_crypto_{cpu}")).spawn(life);
    let thread = thread.map_err(|error| WorkersError::Spawn { cpu, problem: error.to_string() })?;
    Ok(Worker { state, thread })
}

/// Tells workers to leave, each after its current job.
fn dismiss(workers: Vec<Worker>) {
    for worker in workers {
        worker.state.leave();
        worker.thread.thread().unpark();
    }
}

/// Locks the list of workers. A panic while the lock is held leaves the list valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
