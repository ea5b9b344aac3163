//! A worker's life: work while there is work, then spin, then nap; and rest when others want the CPU.
//!
//! The core may be a reactor's too, on a small machine, so a worker must not keep it. And an I/O thread makes
//! no system call to wake one up. So a worker that has had nothing to do for [`SPIN`] naps, in steps, and looks
//! around after each. While all of them nap, jobs are done where they come up, as if there were no workers:
//! nobody waits for a nap to end.
//!
//! Measured by `pool/tests/measure.rs`, on two cores of a Xeon in a virtual machine, medians (99 % below):
//!
//! | | |
//! | --- | --- |
//! | a worker that spins begins with a job, after the call of `submit` | 0.4 µs (0.5 µs) |
//! | and the port has it back | 0.85 µs (1.0 µs) |
//! | all nap: from the first job that is given back to the first that is taken | 260 µs (430 µs) |
//! | `submit` and `poll` take of the I/O thread, in bursts of 32 | 30 ns (60 ns) and 20 ns (25 ns) |
//! | an idle worker takes of its core | 1 to 3 % |

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::Job;
use crate::ring::Shared;

/// How long a worker without work looks at the ring before it naps. Some 50 times what a hand-over takes: under a
/// load that is worth a worker (a job each 40 µs, say) it stays awake, and 98 % of the jobs are handed over. And
/// far less than a reactor on the same core would notice.
const SPIN: Duration = Duration::from_micros(50);

/// Pauses of the CPU between two looks: some 0.1 µs, of the 0.4 µs that a worker needs to begin.
const PAUSES: u32 = 8;

/// The first nap, and the longest; each is twice the one before. The shortest is what Linux can do: it adds up to
/// 50 µs of slack to any sleep. The longest makes 1,000 looks a second, 1 to 3 % of the core, and says for how
/// long the I/O threads do without workers when a load begins, which costs them nothing but the workers' help.
const NAP_MIN: Duration = Duration::from_micros(50);
const NAP_MAX: Duration = Duration::from_millis(1);

/// No job takes that long, and no look at an empty ring: somebody else had the CPU.
const LOST: Duration = Duration::from_millis(if cfg!(miri) { 10_000 } else { 1 });

/// For how many times as long as it lost its CPU a worker rests then, and at most. What it has in its hands when it
/// loses the CPU nobody else can do; so on a CPU that others keep busy it would hold up more than it helps. With this
/// it does so for a sixteenth of the time.
const REST: u32 = 16;
const REST_MAX: Duration = Duration::from_secs(30);

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

/// What a worker's thread and the pool both see. The worker alone counts.
#[derive(Default)]
pub(crate) struct Seat {
    pub cpu: u32,
    leave: AtomicBool,
    jobs: AtomicU64,
    busy_ns: AtomicU64,
}

impl Seat {
    pub fn new(cpu: u32) -> Seat {
        Seat { cpu, ..Seat::default() }
    }

    /// Asks the worker to go. One that naps has to be woken up as well.
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

/// Works until the seat says to leave.
pub(crate) fn work<J: Job>(shared: &Shared<J>, seat: &Seat) {
    let _abort = AbortOnPanic;
    shared.awake.fetch_add(1, SeqCst);
    let mut idle_since = Instant::now();
    let mut looked = idle_since;
    let mut step = NAP_MIN;
    while !seat.leave.load(Relaxed) {
        let ticket = shared.ring.pop();
        let is_job = ticket.is_some();
        match ticket {
            Some(ticket) => ticket.run(),
            None => (0..PAUSES).for_each(|_| spin_loop()),
        }
        // One look at the clock for each look at the ring: when a job is found, the last one was its start.
        let now = Instant::now();
        let took = now - looked;
        looked = now;
        if is_job {
            seat.count(took);
            idle_since = now;
            step = NAP_MIN;
        }
        if took >= LOST {
            rest(shared, seat, took);
        } else if now - idle_since >= SPIN {
            nap(shared, seat, &mut step);
        } else {
            continue;
        }
        looked = Instant::now();
        idle_since = looked;
    }
    // In this order, for `Port::drop`: what is pushed after the last look is pushed by somebody who can see that
    // nobody is awake.
    shared.awake.fetch_sub(1, SeqCst);
    if shared.workers.load(Relaxed) == 0 {
        while let Some(ticket) = shared.ring.pop() {
            ticket.run();
        }
    }
}

/// Naps until there is work, or was, or it is time to leave. Each time for longer, until there was a job: on a
/// reactor's core a worker gets none, because who has it cannot run meanwhile, and must not keep coming back.
fn nap<J: Job>(shared: &Shared<J>, seat: &Seat, step: &mut Duration) {
    shared.awake.fetch_sub(1, SeqCst);
    while !seat.leave.load(Relaxed) && shared.ring.is_empty() {
        thread::park_timeout(*step);
        *step = (*step * 2).min(NAP_MAX);
        if was_wanted(shared) {
            break;
        }
    }
    shared.awake.fetch_add(1, SeqCst);
}

/// After its CPU was somebody else's for as long as `lost`. Time to leave ends it, work does not.
fn rest<J: Job>(shared: &Shared<J>, seat: &Seat, lost: Duration) {
    let until = Instant::now() + (lost * REST).min(REST_MAX);
    shared.awake.fetch_sub(1, SeqCst);
    while !seat.leave.load(Relaxed)
        && let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        thread::park_timeout(left);
    }
    shared.awake.fetch_add(1, SeqCst);
}

/// Whether a job found no worker awake; says so to one worker for each time.
fn was_wanted<J: Job>(shared: &Shared<J>) -> bool {
    shared.wanted.load(Relaxed) && shared.wanted.swap(false, Relaxed)
}

/// A worker that is no more would be waited for for ever, so where panics unwind they end the process here.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
