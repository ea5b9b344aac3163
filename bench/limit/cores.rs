//! The distance between two CPUs: the time of a cache line's round trip.
//!
//! On a virtual machine this changes, because its CPUs are threads that the host moves. The cost of
//! all communication between two processes depends on it.

use std::hint::spin_loop;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_setaffinity};

/// The number of round trips in a trial, which takes some tenths of a millisecond.
const TURNS: u32 = 2_000;

/// The number of trials, of which the median counts. Other processes may have had a CPU during the
/// slower ones.
const TRIALS: u32 = 21;

/// A value alone in its cache line; in two, because CPUs fetch lines in pairs.
#[repr(align(128))]
struct Ball(AtomicU32);

/// Returns the time of a round trip between two CPUs in nanoseconds. It takes some 10 ms, and all
/// of both CPUs.
pub fn round_trip(here: usize, there: usize) -> io::Result<f64> {
    // Both CPUs are tried here first, since a thread that cannot be pinned would leave the other
    // one waiting.
    pin(there)?;
    pin(here)?;
    let ball = Ball(AtomicU32::new(0));
    thread::scope(|scope| {
        let returns = scope.spawn(|| {
            pin(there)?;
            (0..TRIALS * TURNS).for_each(|turn| pass(&ball, 2 * turn + 1));
            Ok::<(), io::Error>(())
        });
        let mut trials = [0.0; TRIALS as usize];
        for (trial, took) in (0..).zip(&mut trials) {
            let begun = Instant::now();
            (0..TURNS).for_each(|turn| pass(&ball, 2 * (trial * TURNS + turn)));
            *took = begun.elapsed().as_nanos() as f64 / f64::from(TURNS);
        }
        trials.sort_by(f64::total_cmp);
        returns.join().expect("it does not panic")?;
        Ok(trials[trials.len() / 2])
    })
}

/// Waits until the value is `turn`, and increments it.
fn pass(ball: &Ball, turn: u32) {
    while ball.0.load(Ordering::Acquire) != turn {
        spin_loop();
    }
    ball.0.store(turn + 1, Ordering::Release);
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!("CPU {cpu}: there is none of that number")));
    }
    only.set(cpu);
    sched_setaffinity(None, &only).map_err(|error| io::Error::other(format!("CPU {cpu}: {error}")))
}
