//! The CPU time of an I/O, both ends together on one thread: this stack, with frames that stay in
//! memory, against the kernel's TCP over loopback. `make bench NET=1` runs it (docs/dpdk.md).

#[path = "kernel/mod.rs"]
mod kernel;
#[path = "../tests/ring/mod.rs"]
mod ring;

use std::time::{Duration, Instant};

use kernel::Kernel;
use ring::{Pair, Work};

/// The number of pairs of measurements, of which the median counts.
const PAIRS: usize = 7;

/// How long a measurement takes.
const TIME: Duration = Duration::from_millis(500);

/// The length of a request or an answer without data, in bytes, as DST has them.
const HEADER: usize = 48;

/// Something that moves answers.
trait Mover {
    /// Moves so many answers.
    fn run(&mut self, answers: usize);
}

impl Mover for Pair {
    fn run(&mut self, answers: usize) {
        Pair::run(self, answers);
    }
}

/// Returns the time of an answer in ns. Nothing waits, so the time is CPU time.
fn measured(mover: &mut dyn Mover) -> f64 {
    let (begin, mut answers) = (Instant::now(), 0);
    while begin.elapsed() < TIME {
        mover.run(1_000);
        answers += 1_000;
    }
    begin.elapsed().as_nanos() as f64 / f64::from(answers)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures both by turns. Returns the medians of both, and of the ratio.
fn compared(one: &mut dyn Mover, other: &mut dyn Mover) -> (f64, f64, f64) {
    one.run(2_000);
    other.run(2_000);
    let pairs: Vec<_> = (0..PAIRS).map(|_| (measured(one), measured(other))).collect();
    let of = |value: fn(&(f64, f64)) -> f64| median(pairs.iter().map(value).collect());
    (of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 / pair.1))
}

fn main() -> std::io::Result<()> {
    println!("CPU ns an I/O, both ends on one thread, medians of {PAIRS} pairs");
    println!("{:<42} {:>9} {:>9} {:>6}", "", "dpdk", "kernel", "ratio");
    let work = |request, answer, depth, mtu, offloads| Work {
        connections: 1,
        depth,
        request: HEADER + request,
        answer: HEADER + answer,
        mtu,
        offloads,
    };
    let (small, large) = (4 << 10, 128 << 10);
    let works = [
        ("4 KiB read, 128 deep, MTU 9000", work(0, small, 128, 9000, true)),
        ("4 KiB write, 128 deep, MTU 9000", work(small, 0, 128, 9000, true)),
        ("128 KiB read, 32 deep, MTU 9000", work(0, large, 32, 9000, true)),
        ("128 KiB write, 32 deep, MTU 9000", work(large, 0, 32, 9000, true)),
        ("4 KiB read, 128 deep, MTU 1500, checksums", work(0, small, 128, 1500, false)),
        ("4 KiB write, 128 deep, MTU 1500, checksums", work(small, 0, 128, 1500, false)),
        ("4 KiB read, 1 deep, MTU 9000", work(0, small, 1, 9000, true)),
    ];
    for (name, work) in works {
        let (ours, theirs, ratio) = compared(&mut Pair::new(work), &mut Kernel::new(work)?);
        println!("{name:<42} {ours:>9.0} {theirs:>9.0} {ratio:>6.2}");
    }
    // Each connection has the same to do, whether it is one of many or alone. With one request at a
    // time, one connection has frames and turns to itself that hundreds share, and the data of
    // hundreds does not stay in the core's cache.
    for depth in [1, 8] {
        for connections in [100, 1_000] {
            let many = Work { connections, ..work(0, small, depth, 9000, true) };
            let one = Work { connections: 1, ..many };
            let ours = compared(&mut Pair::new(many), &mut Pair::new(one));
            let kernels = compared(&mut Kernel::new(many)?, &mut Kernel::new(one)?);
            for (name, (of_many, of_one, ratio)) in [("dpdk", ours), ("kernel", kernels)] {
                println!(
                    "4 KiB read, {depth} deep, {connections} connections against 1, {name}: \
                     {of_many:.0} {of_one:.0} {ratio:.2}"
                );
            }
        }
    }
    Ok(())
}
