//! Exports with one owner at a time. Each client takes the export over from the previous one, which
//! was killed, stopped, cut off, or left alone, while the target may die at any moment.

use std::cell::RefCell;
use std::rc::Rc;

use dst_session::mutation::{self, Mutation};
use dst_sim::Plan;
use dst_sim::fleet::{BDEV, ClientSide, TargetSide, new_store};
use dst_sim::promises::p11_one_owner::Reigns;
use spdk::bdev_io::IoKind;
use spdk::record::{self, Record};
use spdk::user::{self, UserIo};
use world::life::{Death, kill, set_stopped};
use world::rng::Rng;
use world::store::Content;
use world::{content, net, process};

const SEEDS: u64 = 150;

/// The writes of one client have numbers from a multiple of this on, so that a write's number tells
/// whose it is.
const WRITES_OF_ONE: u64 = 1 << 32;

/// The number of clients, each of which takes over from the previous one.
const OWNERS: usize = 3;

/// The number of writes that a client has outstanding at once.
const DEPTH: u64 = 3;

/// The number of writes that a new owner completes before the next one comes.
const ENOUGH: u64 = 12;

/// The number of steps within which everything that is waited for must happen: minutes of the
/// world's time.
const STEPS_MAX: u64 = 2_000_000;

/// One run: the world and what is known of it.
struct Scene {
    plan: Plan,
    rng: Rng,
    target: TargetSide,
    clients: Vec<ClientSide>,
    reigns: Reigns,
    /// For each client: the writes submitted, ended, and completed with success.
    counts: Vec<(u64, u64, u64)>,
    /// The step at which the target dies next, if it does.
    death: Option<u64>,
    violation: Option<String>,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        world::begin(seed, false);
        let mut plan = Plan::new(seed);
        (plan.clients, plan.targets, plan.failover, plan.errors, plan.hiccups) = (OWNERS, 1, false, 0, 0);
        (plan.client_cores, plan.client_threads, plan.target_cores) = (1, 1, 2);
        (plan.cipher, plan.read_only, plan.keep_alive_ms) = (None, false, 1000);
        (plan.in_process, plan.latency_us, plan.is_owned) = (true, (100, 20_000), true);
        (plan.transaction_timeout_ms, plan.max_retries) = (600_000, 0);
        // Owners that do not give up, and whose target has one address that answers.
        (plan.fast_io_fail_ms, plan.loss_ms, plan.dead_addresses) = (0, 0, 0);
        plan.skews = [0; 4];
        net::configure(plan.net.clone());
        let store = new_store(&plan, 0);
        let target = TargetSide::new(&plan, 0, store);
        // The export's state file does not exist yet.
        let released = target.release_export();
        while released.borrow().is_none() {
            world::step();
        }
        let rng = Rng::new(seed ^ 0x7a6e_0ee5);
        let (clients, counts) = (Vec::new(), Vec::new());
        Scene { plan, rng, target, clients, reigns: Reigns::default(), counts, death: None, violation: None }
    }

    /// Starts the next client.
    fn add_client(&mut self) {
        let number = self.clients.len();
        self.clients.push(ClientSide::new(&self.plan, number));
        self.counts.push((0, 0, 0));
    }

    /// Takes a step of the world. Users write whenever they can.
    fn step(&mut self, steps: u64) {
        world::step();
        while world::next_timer().is_some() {}
        if self.death == Some(steps) {
            kill(self.target.process, Death::Killed);
            self.note_all();
            // What the backend had is gone with the process.
            self.reigns.backend_died();
            self.target.start(&self.plan);
        }
        let owners = self.reigns.owners();
        self.note_all();
        if self.reigns.owners() > owners && self.rng.chance(300) {
            // Just when there is a new owner.
            self.death = Some(steps + self.rng.range(1, 100));
        }
        for number in 0..self.clients.len() {
            self.write(number);
        }
    }

    fn note_all(&mut self) {
        for record in record::take() {
            match record {
                Record::DiskIsThere { process, disk, .. } => {
                    if let Some(client) = self.clients.iter_mut().find(|client| client.process == process) {
                        client.disk = Some(disk);
                        process::on(client.threads[0], move || {
                            // The bdev may be gone again.
                            let _ = user::open(disk);
                        });
                    }
                }
                Record::Completed { io, status, .. } => {
                    let counts = &mut self.counts[(io / WRITES_OF_ONE) as usize];
                    counts.1 += 1;
                    counts.2 += u64::from(status == spdk::backend::IoStatus::Success);
                }
                Record::Stored(fact) => {
                    let found = self.reigns.note(&fact, |write| Some(write / WRITES_OF_ONE));
                    self.violation = self.violation.take().or(found);
                }
                _ => {}
            }
        }
    }

    fn write(&mut self, number: usize) {
        let client = &self.clients[number];
        let (submitted, ended, succeeded) = self.counts[number];
        let Some(disk) = client.disk.filter(|_| process::is_alive(client.process)) else { return };
        // A former owner's writes fail, so no more of them are needed.
        if ended > succeeded
            || submitted - ended >= DEPTH
            || !user::is_open(disk, client.threads[0])
            || user::is_going(disk)
        {
            return;
        }
        self.counts[number].0 += 1;
        let id = number as u64 * WRITES_OF_ONE + submitted + 1;
        let offset = self.rng.below(user::num_blocks(disk).min(8));
        let mut data = vec![0; self.plan.block_size as usize];
        content::fill(&mut data, offset, Content { write: id, zero: false });
        let io = UserIo { id, kind: IoKind::Write, offset, count: 1, data };
        process::on(client.threads[0], move || user::submit(disk, io));
    }

    /// Runs until a client has completed enough writes, or there is a violation.
    fn run_until_enough(&mut self, number: usize, steps: &mut u64) {
        for _ in 0..STEPS_MAX {
            if self.violation.is_some() || self.counts[number].2 >= ENOUGH {
                return;
            }
            *steps += 1;
            self.step(*steps);
        }
        panic!("seed {}: client {number} never gets to write: {:?}", self.plan.seed, self.reigns);
    }

    /// Starts all owners, one after the other, and lets something happen to each before the next
    /// one starts.
    fn run(&mut self) {
        let (mut steps, mut stopped) = (0, Vec::new());
        for number in 0..OWNERS {
            self.add_client();
            if self.rng.chance(500) {
                self.death = Some(steps + self.rng.range(1, 4000));
            }
            self.run_until_enough(number, &mut steps);
            if self.violation.is_some() {
                return;
            }
            let process = self.clients[number].process;
            match self.rng.below(4) {
                0 => kill(process, Death::Killed),
                1 => kill(process, Death::Vanished),
                2 => {
                    set_stopped(process, true);
                    stopped.push(process);
                }
                _ => {}
            }
            // A stopped client may continue before the next one owns the export, or long
            // afterwards.
            if self.rng.chance(300) {
                stopped.drain(..).for_each(|process| set_stopped(process, false));
            }
        }
        stopped.drain(..).for_each(|process| set_stopped(process, false));
        for _ in 0..20_000 {
            steps += 1;
            self.step(steps);
        }
    }
}

/// Runs a seed. Returns the violation, if there is one.
fn violation(seed: u64, without: Option<Mutation>) -> Option<String> {
    mutation::set(without);
    let mut scene = Scene::new(seed);
    scene.run();
    let found = scene.violation.take();
    world::end();
    mutation::set(None);
    found
}

#[test]
fn nothing_of_a_former_owner_comes_after_the_new_one() {
    for seed in 0..SEEDS {
        assert_eq!(violation(seed, None), None, "seed {seed}");
    }
}

fn is_found(rule: Mutation) {
    let found = (0..SEEDS).find_map(|seed| Some((seed, violation(seed, Some(rule))?)));
    let (seed, what) = found.unwrap_or_else(|| panic!("{rule:?} is not noticed within {SEEDS} seeds"));
    println!("{rule:?}: seed {seed}: {what}");
}

#[test]
fn that_other_sessions_end_is_needed() {
    is_found(Mutation::NoTakeoverEnd);
}

#[test]
fn that_the_backend_is_waited_for_is_needed() {
    is_found(Mutation::NoTakeoverFence);
}

/// Runs until a client's bdev is in this state.
fn run_until_state(scene: &mut Scene, number: usize, state: &str, steps: &mut u64) {
    let now = Rc::new(RefCell::new(String::new()));
    for _ in 0..STEPS_MAX {
        if *now.borrow() == state {
            return;
        }
        scene.clients[number].ask_state(&now);
        *steps += 1;
        scene.step(*steps);
    }
    panic!("client {number} never is {state}, but {}", now.borrow());
}

/// The takeover with which the bdev was created is used up.
#[test]
fn a_former_owner_that_accepts_the_device_takes_nothing_over() {
    let mut scene = Scene::new(1);
    let mut steps = 0;
    for number in 0..OWNERS {
        scene.add_client();
        scene.run_until_enough(number, &mut steps);
    }
    let (former, owner) = (OWNERS - 2, OWNERS - 1);
    run_until_state(&mut scene, former, "failed", &mut steps);
    while scene.counts[former].0 > scene.counts[former].1 {
        steps += 1;
        scene.step(steps);
    }
    let (app, thread) = (scene.clients[former].app, scene.clients[former].threads[0]);
    let disk = scene.clients[former].disk.take().expect("it had written");
    process::on(thread, move || user::close(disk));
    process::on(app, || dst_client::accept_device(BDEV, |_| {}));
    run_until_state(&mut scene, former, "attaching", &mut steps);
    let written = scene.counts[owner].2;
    for _ in 0..50_000 {
        steps += 1;
        scene.step(steps);
    }
    run_until_state(&mut scene, former, "attaching", &mut steps);
    run_until_state(&mut scene, owner, "connected", &mut steps);
    assert!(scene.counts[owner].2 > written + ENOUGH && scene.violation.is_none());
    world::end();
}
