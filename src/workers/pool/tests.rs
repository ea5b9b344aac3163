//! Tests of the pool through its public interface.

mod measure;
mod stress;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crate::{Job, PORT_DEPTH, Pool, Port, RING, WORKERS_MAX, WorkersError};

/// A pin function for tests that are not about CPUs, which may have more workers than there are
/// CPUs.
fn anywhere(_: &JoinHandle<()>, _: u32) -> Result<(), String> {
    Ok(())
}

/// A pin function for a machine that has only even CPUs.
fn even(_: &JoinHandle<()>, cpu: u32) -> Result<(), String> {
    if cpu.is_multiple_of(2) { Ok(()) } else { Err("it is odd".to_owned()) }
}

/// The state that the jobs of a test share.
#[derive(Default)]
struct World {
    /// The number of jobs created and not dropped.
    live: AtomicUsize,
    /// See [`Hold`].
    hold: AtomicBool,
    /// The number of jobs that began.
    begun: AtomicUsize,
}

struct Task {
    world: Arc<World>,
    runs: u32,
    ran_on: Option<(ThreadId, String)>,
}

impl Task {
    fn new(world: &Arc<World>) -> Box<Task> {
        world.live.fetch_add(1, Relaxed);
        Box::new(Task { world: Arc::clone(world), runs: 0, ran_on: None })
    }
}

impl Job for Task {
    fn run(&mut self) {
        self.runs += 1;
        let thread = thread::current();
        self.ran_on = Some((thread.id(), thread.name().unwrap_or_default().to_owned()));
        self.world.begun.fetch_add(1, Relaxed);
        while self.world.hold.load(Relaxed) {
            thread::yield_now();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.world.live.fetch_sub(1, Relaxed);
    }
}

/// Keeps jobs from ending while it exists. A test creates it after the pool, so that a failing test
/// releases the workers.
struct Hold<'a>(&'a World);

impl<'a> Hold<'a> {
    fn new(world: &'a World) -> Hold<'a> {
        world.hold.store(true, Relaxed);
        Hold(world)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.hold.store(false, Relaxed);
    }
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        thread::yield_now();
    }
}

/// Waits until the pool has at most this many owners: itself, its ports and its workers. Everything
/// that the others did is visible afterwards.
fn wait_until_gone(pool: &Pool<impl Job>, left: usize) {
    wait_until("the workers to be gone", || Arc::strong_count(pool.shared()) == left);
    fence(Acquire);
}

/// Hands a job over as soon as a worker is awake to take it.
fn hand_over(port: &mut Port<Task>, world: &Arc<World>) {
    wait_until("a job to be taken", || port.submit(Task::new(world)).is_ok());
}

fn get_back(port: &mut Port<Task>) -> Box<Task> {
    let mut job = None;
    wait_until("a job to come back", || {
        job = port.poll();
        job.is_some()
    });
    job.unwrap()
}

fn cpus(pool: &Pool<Task>) -> Vec<u32> {
    pool.stats().iter().map(|worker| worker.cpu).collect()
}

#[test]
fn without_workers_jobs_are_given_back() {
    let world = Arc::default();
    let pool = Pool::new(anywhere);
    let mut port = pool.port();
    assert_eq!(port.submit(Task::new(&world)).unwrap_err().runs, 0);
    assert_eq!((port.in_flight(), pool.workers(), pool.stats().len()), (0, 0, 0));
    assert!(port.poll().is_none());
}

#[test]
fn a_job_is_done_on_a_worker_and_counted() {
    let world = Arc::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[3]).unwrap();
    let mut port = pool.port();
    hand_over(&mut port, &world);
    assert_eq!(port.in_flight(), 1);
    // The port was not polled before, so only the worker can run the job.
    wait_until("the job to be run", || world.begun.load(Relaxed) == 1);
    let job = get_back(&mut port);
    assert_eq!(job.runs, 1);
    let (thread, name) = job.ran_on.clone().unwrap();
    assert_ne!(thread, thread::current().id());
    assert_eq!(name, "dst_crypto_3");
    assert_eq!(port.in_flight(), 0);
    wait_until("the job to be counted", || pool.stats()[0].jobs == 1);
    assert_eq!(pool.stats()[0].cpu, 3);
    assert!(pool.stats()[0].busy > Duration::ZERO);
}

#[test]
fn a_port_takes_no_more_than_it_can_give_back_and_the_ring_no_more_than_fits() {
    let world = Arc::<World>::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0]).unwrap();
    let hold = Hold::new(&world);
    let (mut one, mut two) = (pool.port(), pool.port());
    hand_over(&mut one, &world);
    wait_until("the worker to have a job", || world.begun.load(Relaxed) == 1);
    // One job is with the worker, all others are in the ring.
    while one.in_flight() < PORT_DEPTH {
        hand_over(&mut one, &world);
    }
    assert!(one.submit(Task::new(&world)).is_err());
    while two.in_flight() < RING + 1 - PORT_DEPTH {
        hand_over(&mut two, &world);
    }
    assert!(two.submit(Task::new(&world)).is_err());
    drop(hold);
    for port in [&mut one, &mut two] {
        while port.in_flight() > 0 {
            assert_eq!(get_back(port).runs, 1);
        }
    }
    assert_eq!(world.live.load(Relaxed), 0);
}

#[test]
fn workers_come_go_and_stay() {
    let world = Arc::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[4, 2, 4]).unwrap();
    assert_eq!((cpus(&pool), pool.workers()), (vec![2, 4], 2));
    let mut port = pool.port();
    hand_over(&mut port, &world);
    get_back(&mut port);
    let jobs = || pool.stats().iter().map(|worker| worker.jobs).sum::<u64>();
    wait_until("the job to be counted", || jobs() == 1);
    pool.set_cpus(&[1, 2, 4]).unwrap();
    assert_eq!((cpus(&pool), jobs()), (vec![1, 2, 4], 1), "those that stay go on counting");
    pool.set_cpus(&[1]).unwrap();
    assert_eq!((cpus(&pool), jobs()), (vec![1], 0));
    pool.set_cpus(&[]).unwrap();
    assert_eq!((cpus(&pool), pool.workers()), (vec![], 0));
    assert!(port.submit(Task::new(&world)).is_err());
}

#[test]
fn what_cannot_be_leaves_all_as_it_was() {
    let world = Arc::default();
    let pool = Pool::new(even);
    pool.set_cpus(&[2, 6]).unwrap();
    let error = pool.set_cpus(&[2, 4, 5, 8]).unwrap_err();
    assert_eq!(error, WorkersError::Pin { cpu: 5, problem: "it is odd".to_owned() });
    assert_eq!(error.to_string(), "CPU 5: it is odd");
    let many: Vec<u32> = (0..=WORKERS_MAX as u32).collect();
    assert_eq!(pool.set_cpus(&many), Err(WorkersError::TooMany(WORKERS_MAX + 1)));
    assert_eq!((cpus(&pool), pool.workers()), (vec![2, 6], 2));
    wait_until_gone(&pool, 1 + 2);
    let mut port = pool.port();
    hand_over(&mut port, &world);
    assert_eq!(get_back(&mut port).runs, 1);
    // One CPU too many fails. Naming each allowed CPU twice does not.
    pool.set_cpus(&[0; WORKERS_MAX + 1]).unwrap();
    assert_eq!(cpus(&pool), [0]);
}

#[test]
fn leaving_workers_leave_nothing_behind() {
    let world = Arc::<World>::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0]).unwrap();
    let hold = Hold::new(&world);
    let mut port = pool.port();
    hand_over(&mut port, &world);
    wait_until("the worker to have a job", || world.begun.load(Relaxed) == 1);
    for _ in 1..10 {
        hand_over(&mut port, &world);
    }
    // If the call waited for the worker, it would never return.
    pool.set_cpus(&[]).unwrap();
    assert_eq!((pool.workers(), world.begun.load(Relaxed)), (0, 1));
    drop(hold);
    wait_until_gone(&pool, 1 + 1);
    // All jobs are finished, and this port ran none of them.
    assert_eq!((pool.shared().ring.len(), world.begun.load(Relaxed)), (0, 10));
    for _ in 0..10 {
        assert_eq!(port.poll().expect("a finished job").runs, 1);
    }
}

/// Puts a job into the ring while there is no worker, like a submission that the last worker's
/// departure overtook.
fn submit_too_late(port: &mut Port<Task>, pool: &Pool<Task>, world: &Arc<World>) {
    let shared = pool.shared();
    shared.awake.fetch_add(1, Relaxed);
    shared.workers.store(1, Relaxed);
    assert!(port.submit(Task::new(world)).is_ok());
    shared.workers.store(0, Relaxed);
    shared.awake.fetch_sub(1, Relaxed);
}

#[test]
fn who_polls_does_what_no_worker_will() {
    let world = Arc::default();
    let pool = Pool::new(anywhere);
    let (mut one, mut two) = (pool.port(), pool.port());
    submit_too_late(&mut one, &pool, &world);
    submit_too_late(&mut two, &pool, &world);
    // The first job in the ring is the other port's.
    assert!(two.poll().is_none());
    assert_eq!(world.begun.load(Relaxed), 1);
    let (id, _) = two.poll().expect("its own job").ran_on.clone().unwrap();
    assert_eq!(id, thread::current().id());
    assert_eq!(one.poll().expect("the job that the other did").runs, 1);
}

#[test]
fn nobody_waits_for_a_worker_that_does_not_get_on() {
    let (stuck, free) = (Arc::<World>::default(), Arc::default());
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0]).unwrap();
    let hold = Hold::new(&stuck);
    let (mut one, mut two) = (pool.port(), pool.port());
    hand_over(&mut one, &stuck);
    wait_until("the worker to have a job", || stuck.begun.load(Relaxed) == 1);
    hand_over(&mut two, &free);
    let (id, _) = get_back(&mut two).ran_on.clone().unwrap();
    assert_eq!(id, thread::current().id());
    drop(hold);
    assert_eq!(get_back(&mut one).runs, 1);
}

#[test]
#[cfg_attr(miri, ignore = "there everything takes that long")]
fn a_worker_that_lost_its_cpu_keeps_out_of_the_way() {
    let world = Arc::<World>::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0]).unwrap();
    let mut port = pool.port();
    // The time as the worker sees it.
    let mut lose_cpu = |time: Duration| {
        let begun = world.begun.load(Relaxed);
        let hold = Hold::new(&world);
        hand_over(&mut port, &world);
        wait_until("the worker to have a job", || world.begun.load(Relaxed) > begun);
        thread::sleep(time);
        let over = Instant::now();
        drop(hold);
        get_back(&mut port);
        wait_until("the worker to rest", || pool.shared().awake.load(Relaxed) == 0);
        over
    };
    let over = lose_cpu(Duration::from_millis(20));
    wait_until("the worker to be ready again", || pool.is_ready());
    assert!(over.elapsed() >= 16 * Duration::from_millis(20), "after {:?}", over.elapsed());
    // The rest does not keep the worker from leaving.
    let over = lose_cpu(Duration::from_millis(500));
    pool.set_cpus(&[]).unwrap();
    wait_until_gone(&pool, 1 + 1);
    assert!(over.elapsed() < 16 * Duration::from_millis(500), "after {:?}", over.elapsed());
}

#[test]
fn a_dropped_port_leaves_nothing_in_the_ring() {
    let world = Arc::default();
    let pool = Pool::new(anywhere);
    let (mut one, mut two) = (pool.port(), pool.port());
    submit_too_late(&mut one, &pool, &world);
    submit_too_late(&mut two, &pool, &world);
    drop(one);
    assert_eq!((pool.shared().ring.len(), world.live.load(Relaxed)), (0, 1));
    assert_eq!(two.poll().expect("finished by the other").runs, 1);
    assert_eq!(world.live.load(Relaxed), 0);
}

#[test]
fn a_port_may_go_while_its_jobs_are_under_way() {
    let world = Arc::<World>::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0]).unwrap();
    let hold = Hold::new(&world);
    let mut port = pool.port();
    hand_over(&mut port, &world);
    wait_until("the worker to have a job", || world.begun.load(Relaxed) == 1);
    for _ in 1..PORT_DEPTH {
        hand_over(&mut port, &world);
    }
    drop(port);
    assert_eq!(world.live.load(Relaxed), PORT_DEPTH);
    drop(hold);
    wait_until("the jobs to be dropped", || world.live.load(Relaxed) == 0);
}

#[test]
fn a_port_outlives_its_pool() {
    let world = Arc::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0, 1]).unwrap();
    let mut port = pool.port();
    hand_over(&mut port, &world);
    drop(pool.clone());
    hand_over(&mut port, &world);
    drop(pool);
    assert_eq!((get_back(&mut port).runs, get_back(&mut port).runs), (1, 1));
    assert!(port.submit(Task::new(&world)).is_err());
}

#[test]
fn many_ports_on_as_many_threads() {
    let world = Arc::<World>::default();
    let pool = Pool::new(anywhere);
    pool.set_cpus(&[0]).unwrap();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut port = pool.port();
                start.wait();
                for _ in 0..if cfg!(miri) { 3 } else { 200 } {
                    hand_over(&mut port, &world);
                    assert_eq!(get_back(&mut port).runs, 1);
                }
            });
        }
    });
    assert_eq!(world.live.load(Relaxed), 0);
}
