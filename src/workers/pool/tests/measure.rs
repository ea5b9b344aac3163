//! Measures the cost of handing jobs over. It prints figures and never fails: `cargo test --release
//! -p dst-workers -- --ignored --nocapture --test-threads 1`, on two cores that have nothing else
//! to do.

use std::hint::spin_loop;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::anywhere;
use crate::{Job, Pool, Port};

/// A job that takes a given time, and records when it began.
struct Work {
    takes: Duration,
    began: Option<Instant>,
}

impl Job for Work {
    fn run(&mut self) {
        let began = Instant::now();
        self.began = Some(began);
        while began.elapsed() < self.takes {
            spin_loop();
        }
    }
}

fn work(takes: Duration) -> Box<Work> {
    Box::new(Work { takes, began: None })
}

/// Returns a pool of `workers`, all awake.
fn awake_pool(workers: u32) -> (Pool<Work>, Port<Work>) {
    let pool = Pool::new(anywhere);
    let cpus: Vec<u32> = (0..workers).collect();
    pool.set_cpus(&cpus).unwrap();
    let port = pool.port();
    (pool, port)
}

/// Runs a job by the pool, or here if the pool refuses it. Returns whether it was handed over, and
/// the job.
fn run(port: &mut Port<Work>, job: Box<Work>) -> (bool, Box<Work>) {
    match port.submit(job) {
        Err(mut job) => {
            job.run();
            (false, job)
        }
        Ok(()) => loop {
            if let Some(job) = port.poll() {
                return (true, job);
            }
        },
    }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: p10 {:?}, p50 {:?}, p99 {:?} of {}", at(10), at(50), at(99), times.len());
}

/// Returns the CPU time of all threads of this process, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "a measurement"]
fn there_and_back() {
    let (_pool, mut port) = awake_pool(1);
    for gap in [0, 10, 40, 100, 500, 3000].map(Duration::from_micros) {
        let (mut over, mut starts, mut inline) = (Vec::new(), Vec::new(), Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            let submitted = Instant::now();
            let (handed_over, job) = run(&mut port, work(Duration::ZERO));
            let took = submitted.elapsed();
            if handed_over {
                over.push(took);
                starts.push(job.began.unwrap() - submitted);
            } else {
                inline.push(took);
            }
            let pause = Instant::now();
            while pause.elapsed() < gap {
                spin_loop();
            }
        }
        println!(
            "one job at once, {gap:?} after the last: {} handed over, {} done here",
            over.len(),
            inline.len()
        );
        if !over.is_empty() {
            show("    until it begins", starts);
            show("    there and back", over);
        }
    }
}

/// The worker has the ring's cache lines meanwhile, as it does in real use.
#[test]
#[ignore = "a measurement"]
fn what_it_takes_of_the_io_thread() {
    let (_pool, mut port) = awake_pool(1);
    let mut spare: Vec<_> = (0..32).map(|_| work(Duration::from_micros(1))).collect();
    let (mut submits, mut polls) = (Vec::new(), Vec::new());
    while polls.len() < 10_000 {
        let begun = Instant::now();
        let mut given_back = None;
        while given_back.is_none()
            && let Some(job) = spare.pop()
        {
            given_back = port.submit(job).err();
        }
        let took = begun.elapsed();
        let n = port.in_flight() as u32;
        spare.extend(given_back);
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_micros(45) {
            spin_loop();
        }
        if n == 32 {
            submits.push(took / n);
        }
        let begun = Instant::now();
        while let Some(job) = port.poll() {
            spare.push(job);
        }
        if n == 32 && spare.len() == 32 {
            polls.push(begun.elapsed() / n);
        }
        spare.extend(std::iter::from_fn(|| {
            while port.in_flight() > 0 {
                let job = port.poll();
                if job.is_some() {
                    return job;
                }
            }
            None
        }));
    }
    show("a submission, of 32 at once", submits);
    show("a finished job polled, of 32 at once", polls);
}

#[test]
#[ignore = "a measurement"]
fn throughput() {
    for (takes, workers) in [(0, 0), (0, 1), (1, 0), (1, 1), (4, 0), (4, 1)] {
        let (_pool, mut port) = awake_pool(workers);
        let mut spare: Vec<_> = (0..64).map(|_| work(Duration::from_micros(takes))).collect();
        let (mut over, mut here) = (0, 0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            while let Some(job) = spare.pop() {
                match port.submit(job) {
                    Ok(()) => over += 1,
                    Err(mut job) => {
                        job.run();
                        here += 1;
                        spare.push(job);
                        break;
                    }
                }
            }
            while let Some(job) = port.poll() {
                spare.push(job);
            }
        }
        println!(
            "{workers} workers, jobs of {takes} µs, up to 64 at once: {over}/s handed over, {here}/s done here"
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn how_long_a_worker_takes_to_wake_up() {
    let (_pool, mut port) = awake_pool(1);
    let mut times = Vec::new();
    for _ in 0..300 {
        // This is long enough for the longest naps.
        thread::sleep(Duration::from_millis(5));
        let begun = Instant::now();
        while !run(&mut port, work(Duration::ZERO)).0 {
            spin_loop();
        }
        times.push(begun.elapsed());
    }
    show("from the first submission that was given back to the first that was taken", times);
}

#[test]
#[ignore = "a measurement"]
fn what_idle_workers_take() {
    for workers in [1, 8, 64] {
        let (_pool, _port) = awake_pool(workers);
        thread::sleep(Duration::from_millis(20));
        let before = cpu_time();
        thread::sleep(Duration::from_secs(3));
        let share = (cpu_time() - before).as_secs_f64() / 3.0;
        println!("{workers} idle workers: {:.2} % of a core", share * 100.0);
    }
}
