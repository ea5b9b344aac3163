//! Workers: threads on cores of their own, which do work for I/O threads that would otherwise hold
//! them up.
//!
//! A [`Pool`] has one ring of submitted jobs, from which all workers take. Each I/O thread has a
//! [`Port`] with its own ring of finished jobs. All rings have a fixed size and use no locks.
//! Nothing is allocated between a submission and its completion, since a job is a box that travels
//! from its owner to a worker and back.
//!
//! Workers can be added, removed and moved while jobs are under way. No job is lost, because each
//! is always in exactly one place: in the ring, with the thread that runs it, or in its port's
//! ring. A port whose job waits too long, or while no worker is awake, takes jobs out of the ring
//! again and runs them itself ([`Port::poll`]). So it does not matter whether a submission or the
//! departure of the last worker comes first.
//!
//! | module | subject |
//! | --- | --- |
//! | `pool` | the set of workers |
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

/// A job. A panic in a job ends the process.
pub trait Job: Send + 'static {
    /// Does the work, on a worker's thread, or on the I/O thread of any port of the pool.
    fn run(&mut self);
}

/// The maximum number of workers of one pool.
pub const WORKERS_MAX: usize = 64;

/// The maximum number of jobs of all ports that wait for a worker. If there are more, there are too
/// few workers, and an I/O thread that does the work itself helps more than one that waits. With
/// jobs of 128 KiB (some 20 µs each), a full ring is a millisecond of work for one worker.
pub const RING: usize = 64;

/// The maximum number of jobs that one port may have under way.
pub const PORT_DEPTH: usize = 64;

/// The reason why the set of workers could not be changed. The pool has the same workers as before.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkersError {
    /// More than [`WORKERS_MAX`] CPUs were given.
    #[error("{0} CPUs given, at most {WORKERS_MAX} are allowed")]
    TooMany(usize),
    /// A worker could not be pinned to its CPU.
    #[error("CPU {cpu}: {problem}")]
    Pin {
        /// The CPU.
        cpu: u32,
        /// The error of the pin function.
        problem: String,
    },
    /// The system could not create a thread.
    #[error("CPU {cpu}: can't create a thread for it: {problem}")]
    Spawn {
        /// The CPU.
        cpu: u32,
        /// The error of the system.
        problem: String,
    },
}
