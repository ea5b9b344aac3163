//! The rings, and which workers there are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::port::Port;
use crate::worker::{self, Seat};
use crate::{Job, RING, WORKERS_MAX, WorkersError};

/// Puts the calling thread on a CPU, and says why if it cannot.
pub type Pin = fn(u32) -> Result<(), String>;

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

/// What a worker has done since it is on its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerStats {
    /// The CPU it is on.
    pub cpu: u32,
    /// Jobs that it did.
    pub jobs: u64,
    /// The time that took, from finding a job until it was given back.
    pub busy: Duration,
}

impl<J: Job> Pool<J> {
    /// A pool without workers, and with its rings. `pin` is called on each worker's thread before it works.
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
    /// Blocks until the old ones are gone: for what a job takes, and, of the last worker of all, for what the
    /// jobs in the ring take, which are at most [`RING`].
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
        let mut added = hire(shared, *pin, new.copied())?;
        let (kept, gone) = workers.drain(..).partition(|worker| cpus.contains(&worker.seat.cpu));
        *workers = kept;
        workers.append(&mut added);
        workers.sort_unstable_by_key(|worker| worker.seat.cpu);
        shared.workers.store(workers.len(), Relaxed);
        dismiss(gone);
        Ok(())
    }

    /// How many workers there are. HOT.
    pub fn workers(&self) -> usize {
        self.control.shared.workers.load(Relaxed)
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
    let mut starts = Vec::new();
    let mut result = Ok(());
    for cpu in cpus {
        match start(shared, pin, cpu) {
            Ok((worker, started)) => {
                hired.push(worker);
                starts.push((cpu, started));
            }
            Err(e) => {
                result = Err(WorkersError::Spawn { cpu, problem: e.to_string() });
                break;
            }
        }
    }
    for (cpu, started) in starts {
        let pinned = started.recv().expect("a new worker says whether it is on its CPU");
        result = result.and(pinned.map_err(|problem| WorkersError::Pin { cpu, problem }));
    }
    if let Err(error) = result {
        dismiss(hired);
        return Err(error);
    }
    Ok(hired)
}

type Started = Receiver<Result<(), String>>;

fn start<J: Job>(shared: &Arc<Shared<J>>, pin: Pin, cpu: u32) -> std::io::Result<(Worker, Started)> {
    let seat = Arc::new(Seat::new(cpu));
    let (starting, started) = mpsc::channel();
    let life = {
        let (shared, seat) = (Arc::clone(shared), Arc::clone(&seat));
        move || {
            let pinned = pin(cpu);
            let failed = pinned.is_err();
            // Nobody is told only when the one who waits panicked.
            let _ = starting.send(pinned);
            if !failed {
                worker::work(&shared, &seat);
            }
        }
    };
    // Linux shows 15 characters of it.
    let thread = thread::Builder::new().name(format!("dst_crypto_{cpu}")).spawn(life)?;
    Ok((Worker { seat, thread }, started))
}

/// Ends workers, when each has done the job it has in hand.
fn dismiss(workers: Vec<Worker>) {
    for worker in &workers {
        worker.seat.leave();
        worker.thread.thread().unpark();
    }
    for worker in workers {
        worker.thread.join().expect("a panic on a worker ends the process");
    }
}

/// A panic while it is held leaves the list as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
