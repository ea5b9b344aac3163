//! Checks that every job comes back once, whatever the workers and the ports do meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::{anywhere, wait_until_gone};
use crate::{Job, Pool, Port};

/// The total number of jobs, and of the threads that submit them.
const JOBS: usize = if cfg!(miri) { 400 } else { 1_000_000 };
const SUBMITTERS: usize = 3;
/// The longest time without progress. A test takes seconds on an idle machine.
const STUCK: Duration = Duration::from_secs(120);

/// A job with a unique number, which changes memory that is not the port's.
struct Numbered {
    number: usize,
    runs: u32,
    by_worker: bool,
    data: [usize; 4],
    live: Arc<AtomicUsize>,
}

impl Numbered {
    fn new(number: usize, live: &Arc<AtomicUsize>) -> Box<Numbered> {
        live.fetch_add(1, Relaxed);
        Box::new(Numbered { number, runs: 0, by_worker: false, data: [0; 4], live: Arc::clone(live) })
    }
}

impl Job for Numbered {
    fn run(&mut self) {
        self.runs += 1;
        self.by_worker = thread::current().name().is_some_and(|name| name.starts_with("dst_crypto_"));
        // Jobs take different times, up to some 300 ns.
        for _ in 0..self.number % 8 {
            std::hint::spin_loop();
        }
        self.data = std::array::from_fn(|i| self.number + i);
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Relaxed);
    }
}

/// xorshift64*, so that the test needs no crate for random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

/// A submitter's record: which of its jobs came back, how many were handed over, and how many of
/// those a port ran after all.
struct Books {
    first: usize,
    back: Vec<bool>,
    came_back: usize,
    handed_over: usize,
    late: usize,
}

impl Books {
    fn enter(&mut self, job: &Numbered) {
        assert_eq!(job.runs, 1, "job {}", job.number);
        assert_eq!(job.data, std::array::from_fn(|i| job.number + i));
        let back = &mut self.back[job.number - self.first];
        assert!(!*back, "job {} came back twice", job.number);
        *back = true;
        self.came_back += 1;
    }
}

/// Submits the jobs `numbers`, up to `depth` at once, and returns when all have come back.
fn submit_all(
    port: &mut Port<Numbered>,
    numbers: std::ops::Range<usize>,
    depth: usize,
    live: &Arc<AtomicUsize>,
    random: &mut Random,
) -> Books {
    let back = vec![false; numbers.len()];
    let mut books = Books { first: numbers.start, back, came_back: 0, handed_over: 0, late: 0 };
    let mut next = numbers.start;
    let mut last_progress = Instant::now();
    while books.came_back < books.back.len() {
        let burst = random.below(depth + 1);
        for _ in 0..burst.min(numbers.end - next).min(depth - port.in_flight().min(depth)) {
            let job = Numbered::new(next, live);
            next += 1;
            match port.submit(job) {
                Ok(()) => books.handed_over += 1,
                Err(mut job) => {
                    job.run();
                    books.enter(&job);
                    last_progress = Instant::now();
                }
            }
        }
        let before = books.came_back;
        while let Some(job) = port.poll() {
            books.enter(&job);
            books.late += usize::from(!job.by_worker);
        }
        if books.came_back > before {
            last_progress = Instant::now();
        } else {
            assert!(last_progress.elapsed() < STUCK, "{} in flight and lost", port.in_flight());
            thread::yield_now();
        }
    }
    assert_eq!((port.in_flight(), next), (0, numbers.end));
    assert!(port.poll().is_none());
    books
}

/// Runs submitters while another thread changes the workers, to one of `choices` each time.
fn run(name: &str, choices: &[&[u32]], depth: usize, seed: u64) {
    let pool = Pool::new(anywhere);
    let live = Arc::new(AtomicUsize::new(0));
    let (handed_over, late) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let changes = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let start = Barrier::new(SUBMITTERS + 1);
    thread::scope(|scope| {
        let submitters: Vec<_> = (0..SUBMITTERS)
            .map(|i| {
                let (pool, live, start) = (&pool, &live, &start);
                let (handed_over, late) = (&handed_over, &late);
                scope.spawn(move || {
                    let mut random = Random(seed + i as u64);
                    let share = JOBS / SUBMITTERS;
                    let mut port = pool.port();
                    start.wait();
                    let books = submit_all(&mut port, i * share..(i + 1) * share, depth, live, &mut random);
                    assert!(books.back.iter().all(|back| *back));
                    handed_over.fetch_add(books.handed_over, Relaxed);
                    late.fetch_add(books.late, Relaxed);
                })
            })
            .collect();
        let changer = scope.spawn(|| {
            let mut random = Random(seed ^ 0xffff);
            start.wait();
            while !over.load(Relaxed) {
                pool.set_cpus(choices[random.below(choices.len())]).unwrap();
                changes.fetch_add(1, Relaxed);
                let pause = Duration::from_micros(random.below(400) as u64);
                let begun = Instant::now();
                while begun.elapsed() < pause {
                    thread::yield_now();
                }
            }
        });
        let ends: Vec<_> = submitters.into_iter().map(ScopedJoinHandle::join).collect();
        over.store(true, Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
        changer.join().unwrap();
    });
    assert_eq!(live.load(Relaxed), 0);
    assert!(pool.shared().ring.is_empty());
    let (handed_over, late, changes) = (handed_over.into_inner(), late.into_inner(), changes.into_inner());
    let what =
        format!("{handed_over} handed over, {late} of them too late, {changes} changes of the workers");
    println!("{name}: {JOBS} jobs, {what}");
    // Otherwise the test would test nothing.
    assert!(cfg!(miri) || (handed_over > 1000 && late > 0 && changes > 10), "{what}");
}

#[test]
fn jobs_come_back_once_while_workers_come_and_go() {
    run("come and go", &[&[], &[0], &[1], &[0, 1], &[0, 1, 2], &[2, 3], &[0, 3]], 200, 0x5eed);
}

#[test]
fn jobs_come_back_once_while_the_last_worker_leaves_again_and_again() {
    run("last one", &[&[], &[0]], 3, 0xface);
}

#[test]
fn ports_that_go_take_their_jobs_with_them() {
    let pool = Pool::new(anywhere);
    let live = Arc::new(AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    let enough = if cfg!(miri) { 10 } else { 5000 };
    thread::scope(|scope| {
        let droppers: Vec<_> = (0..SUBMITTERS)
            .map(|i| {
                let (pool, live) = (&pool, &live);
                scope.spawn(move || {
                    let mut random = Random(77 + i as u64);
                    let mut handed_over = 0;
                    let begun = Instant::now();
                    while handed_over < enough {
                        assert!(begun.elapsed() < STUCK, "only {handed_over} were handed over");
                        let mut port = pool.port();
                        for number in 0..random.below(60) {
                            handed_over += usize::from(port.submit(Numbered::new(number, live)).is_ok());
                            if random.below(3) == 0
                                && let Some(job) = port.poll()
                            {
                                assert_eq!(job.runs, 1);
                            }
                        }
                    }
                })
            })
            .collect();
        let changer = scope.spawn(|| {
            let mut random = Random(9);
            while !over.load(Relaxed) {
                pool.set_cpus([&[][..], &[0], &[0, 1]][random.below(3)]).unwrap();
                thread::sleep(Duration::from_micros(random.below(1000) as u64));
            }
        });
        let ends: Vec<_> = droppers.into_iter().map(ScopedJoinHandle::join).collect();
        over.store(true, Relaxed);
        changer.join().unwrap();
        ends.into_iter().for_each(|end| end.unwrap());
    });
    // No port polls and there are no workers, but the late jobs are gone all the same.
    pool.set_cpus(&[]).unwrap();
    wait_until_gone(&pool, 1);
    assert_eq!((pool.shared().ring.len(), live.load(Relaxed)), (0, 0));
}
