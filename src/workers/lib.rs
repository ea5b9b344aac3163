//! Workers: threads on cores of their own, to which I/O threads hand work over that would hold them up.
//!
//! A [`Pool`] has one ring of submitted jobs, which all workers take from. Each I/O thread has a [`Port`],
//! with a ring of its own for what is finished. All rings have a fixed size and take no lock, and nothing is
//! allocated between a submission and its completion: a job is a box of its owner's that goes there and back.
//!
//! Workers come, go and move while jobs are under way. That loses nothing, because a job is always in exactly
//! one place (the ring, whoever runs it, its port's ring), and because whoever waits for a job that no worker
//! is awake to run, or for too long, takes it out of the ring again ([`Port::poll`]). So it does not matter whether
//! a submission or the departure of the last worker comes first.
//!
//! | module | what |
//! | --- | --- |
//! | `pool` | which workers there are |
//! | `port` | an I/O thread's side |
//! | `ring` | the ring of submitted jobs, which ports and workers share |
//! | `worker` | a worker's life: work, spin, nap, leave |

#![forbid(unsafe_code)]

mod pool;
mod port;
mod ring;
mod worker;

use thiserror::Error;

pub use pool::{Pin, Pool};
pub use port::Port;
pub use worker::WorkerStats;

/// What a worker does with a job. A panic in it ends the process.
pub trait Job: Send + 'static {
    /// Does the work. On a worker's thread, or on an I/O thread: that of the job's port, or of another port of
    /// the pool.
    fn run(&mut self);
}

/// Most workers of one pool.
pub const WORKERS_MAX: usize = 64;

/// Jobs that wait for a worker, of all ports together. Beyond that the workers are what is short, and an I/O
/// thread that does the work itself helps more than one that waits: with jobs of 128 KiB (some 20 µs each) a full
/// ring is a millisecond's work for one worker.
pub const RING: usize = 64;

/// Jobs that one port may have under way.
pub const PORT_DEPTH: usize = 64;

/// Why the pool has not the workers that were asked for. It has those that it had before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkersError {
    /// More than [`WORKERS_MAX`].
    #[error("{0} CPUs given, at most {WORKERS_MAX} are allowed")]
    TooMany(usize),
    /// A worker cannot be put on its CPU.
    #[error("CPU {cpu}: {problem}")]
    Pin {
        /// The CPU.
        cpu: u32,
        /// What the pin function says.
        problem: String,
    },
    /// The system makes no more threads.
    #[error("CPU {cpu}: no thread for it: {problem}")]
    Spawn {
        /// The CPU.
        cpu: u32,
        /// What the system says.
        problem: String,
    },
}
