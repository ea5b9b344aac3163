//! How far two CPUs are from each other: how long a cache line takes there and back.
//!
//! On a virtual machine that is not settled once: its CPUs are threads of the host, which moves them. Everything
//! that two processes say to each other depends on it.

use std::hint::spin_loop;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_setaffinity};

/// There and back so often is a trial; some tenths of a millisecond.
const TURNS: u32 = 2_000;

/// The median of so many trials counts: others may have had a CPU in the slower ones.
const TRIALS: u32 = 21;

/// A cache line that holds nothing else; two, because CPUs fetch them in pairs.
#[repr(align(128))]
struct Ball(AtomicU32);

/// Nanoseconds there and back between two CPUs. Takes some 10 ms, and both CPUs whole.
pub fn round_trip(here: usize, there: usize) -> io::Result<f64> {
    // Both are tried here first: a thread that can't go to its CPU would leave the other one waiting.
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

/// Waits until the ball is at `turn`, and sends it on.
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
