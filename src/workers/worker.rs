//! A worker's loop: work while there is work, then spin, then nap; and rest if other threads want
//! the CPU.
//!
//! On a small machine, the core may also be a reactor's, so a worker must not monopolise it. And an
//! I/O thread makes no system call to wake a worker. So a worker that was idle for [`SPIN`] naps in
//! steps, and looks at the ring after each. While all workers nap, I/O threads run their jobs
//! themselves, as if there were no workers: no job waits for a nap to end.
//!
//! Measured by `pool/tests/measure.rs` on two cores of a Xeon in a virtual machine: medians (99th
//! percentiles).
//!
//! | | |
//! | --- | --- |
//! | from the call of `submit` until a spinning worker begins the job | 0.4 µs (0.5 µs) |
//! | and until the port has the job back | 0.85 µs (1.0 µs) |
//! | while all nap, from the first job that is refused to the first that is taken | 260 µs (430 µs) |
//! | cost of `submit` and `poll` to the I/O thread, in bursts of 32 | 30 ns (60 ns) and 20 ns (25 ns) |
//! | cost of an idle worker to its core | 1 to 3 % |

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::Job;
use crate::ring::RingState;

/// How long an idle worker looks at the ring before it naps: some 50 times the duration of a
/// hand-over. Under a load that is worth a worker (a job every 40 µs, say), the worker stays awake
/// and 98 % of the jobs are handed over. It is also far less than a reactor on the same core would
/// notice.
const SPIN: Duration = Duration::from_micros(50);

/// The number of CPU pauses between two looks: some 0.1 µs of the 0.4 µs that a worker needs to
/// begin a job.
const PAUSES: u32 = 8;

/// The first nap and the longest; each is twice as long as the previous one. The shortest is what
/// Linux can do, since it adds up to 50 µs of slack to any sleep. The longest gives 1,000 looks a
/// second, 1 to 3 % of the core. It is also how long the I/O threads have no workers when a load
/// begins, which costs them only the workers' help.
const NAP_MIN: Duration = Duration::from_micros(50);
const NAP_MAX: Duration = Duration::from_millis(1);

/// No job and no look at an empty ring takes this long, so another thread had the CPU.
const LOST: Duration = Duration::from_millis(if cfg!(miri) { 10_000 } else { 1 });

/// A worker that lost its CPU rests for this many times as long, up to the maximum. No other thread
/// can finish the job that a worker has when it loses the CPU, so on a busy CPU it would delay more
/// than it helps. With the rest, it does so for at most a sixteenth of the time.
const REST: u32 = 16;
const REST_MAX: Duration = Duration::from_secs(30);

/// What a worker has done since it was put on its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerStats {
    /// The worker's CPU.
    pub cpu: u32,
    /// The number of jobs done.
    pub jobs: u64,
    /// The time that the jobs took, from finding a job until it was returned.
    pub busy: Duration,
}

/// The state that a worker's thread and the pool share. Only the worker writes the counters.
#[derive(Default)]
pub(crate) struct WorkerState {
    pub cpu: u32,
    leave: AtomicBool,
    jobs: AtomicU64,
    busy_ns: AtomicU64,
}

impl WorkerState {
    pub fn new(cpu: u32) -> WorkerState {
        WorkerState { cpu, ..WorkerState::default() }
    }

    /// Asks the worker to leave. A worker that naps has to be woken up as well.
    pub fn leave(&self) {
        self.leave.store(true, Relaxed);
    }

    pub fn stats(&self) -> WorkerStats {
        let busy = Duration::from_nanos(self.busy_ns.load(Relaxed));
        WorkerStats { cpu: self.cpu, jobs: self.jobs.load(Relaxed), busy }
    }

    fn count(&self, took: Duration) {
        self.jobs.store(self.jobs.load(Relaxed) + 1, Relaxed);
        self.busy_ns.store(self.busy_ns.load(Relaxed) + took.as_nanos() as u64, Relaxed);
    }
}

/// Works until [`WorkerState::leave`] is called.
pub(crate) fn work<J: Job>(shared: &RingState<J>, state: &WorkerState) {
    let _abort = AbortOnPanic;
    shared.awake.fetch_add(1, SeqCst);
    let mut idle_since = Instant::now();
    let mut looked = idle_since;
    let mut step = NAP_MIN;
    while !state.leave.load(Relaxed) {
        let ticket = shared.ring.pop();
        let is_job = ticket.is_some();
        match ticket {
            Some(ticket) => ticket.run(),
            None => (0..PAUSES).for_each(|_| spin_loop()),
        }
        // The clock is read once for each look at the ring. If a job was found, the previous
        // reading was its start.
        let now = Instant::now();
        let took = now - looked;
        looked = now;
        if is_job {
            state.count(took);
            idle_since = now;
            step = NAP_MIN;
        }
        if took >= LOST {
            rest(shared, state, took);
        } else if now - idle_since >= SPIN {
            nap(shared, state, &mut step);
        } else {
            continue;
        }
        looked = Instant::now();
        idle_since = looked;
    }
    // The order matters for `Port::drop`: a job that is pushed after the last look comes from a
    // port that can see that no worker is awake.
    shared.awake.fetch_sub(1, SeqCst);
    if shared.workers.load(Relaxed) == 0 {
        while let Some(ticket) = shared.ring.pop() {
            ticket.run();
        }
    }
}

/// Naps until a job waits, a job has found no worker awake, or the worker is to leave. Naps get
/// longer until there is a job. A worker on a reactor's core gets none, since that reactor cannot
/// submit while the worker runs, so the worker must not keep coming back.
fn nap<J: Job>(shared: &RingState<J>, state: &WorkerState, step: &mut Duration) {
    shared.awake.fetch_sub(1, SeqCst);
    while !state.leave.load(Relaxed) && shared.ring.is_empty() {
        thread::park_timeout(*step);
        *step = (*step * 2).min(NAP_MAX);
        if was_wanted(shared) {
            break;
        }
    }
    shared.awake.fetch_add(1, SeqCst);
}

/// Rests after other threads had the CPU for `lost`. A request to leave ends the rest; a job does
/// not.
fn rest<J: Job>(shared: &RingState<J>, state: &WorkerState, lost: Duration) {
    let until = Instant::now() + (lost * REST).min(REST_MAX);
    shared.awake.fetch_sub(1, SeqCst);
    while !state.leave.load(Relaxed)
        && let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        thread::park_timeout(left);
    }
    shared.awake.fetch_add(1, SeqCst);
}

/// Returns whether a job found no worker awake. Each such job is reported to one worker.
fn was_wanted<J: Job>(shared: &RingState<J>) -> bool {
    shared.wanted.load(Relaxed) && shared.wanted.swap(false, Relaxed)
}

/// Aborts the process if a job panics (where panics unwind), since ports would wait for ever for a
/// dead worker.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
