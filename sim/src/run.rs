//! Runs one seed from its beginning to its end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use dst_broker::kept::encode;
use dst_session::mutation::{self, Mutation};
use dst_wire::Ownership;
use spdk::bdev_io::IoKind;
use spdk::record::{self, Record};
use spdk::{durable_file, secret_file, user};
use world::{Violation, net, process, store};

use crate::contact::{Answers, Clocks, Contact};
use crate::fleet::{ClientSide, EXPORT, KEY_FILE, STATE_FILE, TargetSide, new_store};
use crate::frames::Frames;
use crate::model::{ClientFacts, Model};
use crate::plan::Plan;
use crate::promises::{NO_PANIC, Promises, p5_only_latency as p5, p9_bounded as p9, p10_removal_ends as p10};
use crate::seats::{self, ThreadUse};
use crate::users::{self, UsedRanges, User};

/// The interval at which the run checks on clients and targets, in µs.
const TICK_US: u64 = 20_000;

/// The number of ticks for which all must be well: a process that was just continued may not have
/// heard of a loss yet.
const WELL: u32 = 8;

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first violation.
    pub violation: Option<Violation>,
    /// Turns of threads, and events.
    pub steps: u64,
    /// A digest of everything that happened, the same for each run of a seed.
    pub digest: u64,
    /// I/Os that ended.
    pub ios: u64,
    /// I/Os that ended with an error.
    pub failed: u64,
    /// The last part of what happened.
    pub history: Vec<String>,
}

/// How long a client was stopped, on its process's clock.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    pub began_us: u64,
    pub total_us: u64,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Faults occur.
    Faults,
    /// No more faults occur; all must be well before `until`.
    Recovery {
        until: u64,
    },
    /// All blocks are read.
    ReadBack {
        until: u64,
    },
    /// Everything is taken down.
    TearDown {
        until: u64,
    },
    Over,
}

pub(crate) struct Run {
    pub plan: Plan,
    pub targets: Vec<TargetSide>,
    pub clients: Vec<ClientSide>,
    pub seats: Vec<Vec<ThreadUse>>,
    pub stops: Vec<Stops>,
    pub model: Model,
    pub promises: Promises,
    pub frames: Rc<Frames>,
    pub exports_change: bool,
    /// When exports, hosts or rights last changed.
    pub trouble_us: u64,
    /// Until when sessions may end because of faults, and the client not know yet.
    pub sessions_end_until_us: u64,
    used: UsedRanges,
    began_us: u64,
    ios_left: u64,
    states: Vec<Rc<RefCell<String>>>,
    /// What clients said about their connections.
    answers: Vec<Answers>,
    stage: Stage,
    /// The number of ticks for which all has been well.
    well: u32,
    read_back: Vec<u64>,
    stopped: Vec<crate::fleet::Told>,
}

const THINK: u64 = 1 << 32;
const STRIKE: u64 = 2 << 32;
const UNDO: u64 = 3 << 32;
const TICK: u64 = 4 << 32;

/// Runs a plan, with one protection removed if a mutation is given.
pub fn run(plan: &Plan, mutation: Option<Mutation>, history: bool) -> Outcome {
    mutation::set(mutation);
    mutation::set_aborts(plan.aborts);
    world::begin(plan.seed, history);
    let mut outcome = Outcome::default();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(plan.clone());
        let violation = run.finish();
        outcome.ios = run.model.completed;
        outcome.failed = run.model.failed;
        violation
    }));
    outcome.violation = match result {
        Ok(violation) => violation,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = format!("panic: {}", text.unwrap_or_default());
            world::note(|| text.clone());
            Some(Violation { property: NO_PANIC, text })
        }
    };
    outcome.steps = world::steps();
    outcome.digest = world::digest();
    outcome.history = world::history();
    // What a panic leaves behind may panic again.
    let _ = catch_unwind(world::end);
    mutation::set(None);
    outcome
}

impl Run {
    fn new(plan: Plan) -> Run {
        net::configure(plan.net.clone());
        let frames = Rc::<Frames>::default();
        net::set_tap(frames.clone());
        durable_file::put(STATE_FILE, encode(EXPORT, &Ownership::Free { last: 0 }).into_bytes());
        durable_file::set_failures(plan.store_failures);
        secret_file::put(KEY_FILE, format!("DST-PSK-1\n{}\n", "5d".repeat(32)));
        let first = new_store(&plan, 0);
        let store =
            |number: usize| if plan.failover || number == 0 { first } else { new_store(&plan, number as u8) };
        let targets: Vec<TargetSide> =
            (0..plan.targets).map(|number| TargetSide::new(&plan, number, store(number))).collect();
        let clients: Vec<ClientSide> = (0..plan.clients).map(|n| ClientSide::new(&plan, n)).collect();
        let seats = clients.iter().map(|c| c.threads.iter().map(|_| ThreadUse::wanted()).collect()).collect();
        let facts = ClientFacts {
            deadline_us: plan.deadline_us(),
            fast_io_fail_us: u64::from(plan.fast_io_fail_ms) * 1000,
            loss_us: u64::from(plan.loss_ms) * 1000,
            ..ClientFacts::default()
        };
        let mut model = Model { clients: vec![facts; plan.clients], ..Model::default() };
        model.excuses.fails_over = plan.failover;
        model.excuses.errors = plan.errors > 0;
        model.excuses.retries = plan.max_retries > 0;
        model.excuses.resets_reach_backend = plan.reset_backend;
        for client in 0..plan.clients {
            for thread in 0..plan.client_threads {
                let at = world::now() + world::dice(|r| r.below(20_000));
                world::timer(at, THINK | (client as u64) << 8 | thread as u64);
            }
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            world::timer(world::now() + at, STRIKE | index as u64);
        }
        world::timer(world::now() + TICK_US, TICK);
        Run {
            states: clients.iter().map(|_| Rc::default()).collect(),
            answers: clients.iter().map(|_| Rc::default()).collect(),
            stops: clients.iter().map(|_| Stops::default()).collect(),
            ios_left: plan.ios,
            targets,
            clients,
            seats,
            model,
            promises: Promises::new(plan.is_owned),
            frames,
            exports_change: false,
            trouble_us: 0,
            sessions_end_until_us: 0,
            used: UsedRanges::default(),
            began_us: world::now(),
            stage: Stage::Faults,
            well: 0,
            read_back: Vec::new(),
            stopped: Vec::new(),
            plan,
        }
    }

    fn finish(&mut self) -> Option<Violation> {
        let faults_end = world::now() + self.plan.length_us;
        while self.stage != Stage::Over {
            world::step();
            self.check_promises();
            while let Some(key) = world::next_timer() {
                self.timer(key);
                self.check_promises();
            }
            if self.stage == Stage::Faults && world::now() >= faults_end {
                self.heal();
                self.stage = Stage::Recovery { until: world::now() + p5::RECOVERY_US };
            }
            p9::check_credits(&self.frames);
            if let Some(violation) = world::take_violations().into_iter().next() {
                return Some(violation);
            }
        }
        None
    }

    /// Returns a client's clock, in µs, without the time in which the client was stopped.
    pub(crate) fn running_us(&self, client: usize) -> u64 {
        let process = self.clients[client].process;
        let stops = &self.stops[client];
        let now = if process::is_stopped(process) { stops.began_us } else { process::clock(process) };
        now - stops.total_us
    }

    /// Returns the running time, in µs, without the time in which the whole world stood still.
    pub(crate) fn active_us(&self, client: usize) -> u64 {
        self.running_us(client).saturating_sub(world::held_up_us())
    }

    fn clocks(&self, client: usize) -> Clocks {
        Clocks { running_us: self.running_us(client), active_us: self.active_us(client) }
    }

    /// Takes what a client said about its connections since the last call, and asks again.
    fn ask_contact(&mut self, client: usize) {
        let now = self.clocks(client);
        let facts = &mut self.model.clients[client];
        if let Some(answer) = self.answers[client].take() {
            facts.contact.hear(answer, now);
        }
        let side = &self.clients[client];
        if side.disk.is_some_and(|disk| !user::is_going(disk)) {
            p10::check_loss(facts, client);
            side.ask_contact(&self.answers[client], now);
        }
    }

    fn set_clocks(&mut self) {
        for client in 0..self.clients.len() {
            self.model.clients[client].clock_us = process::clock(self.clients[client].process);
            self.model.clients[client].running_us = self.running_us(client);
            self.model.clients[client].active_us = self.active_us(client);
            let target = &self.targets[self.clients[client].target];
            self.model.clients[client].restricted = target.has_restricted(client);
        }
        self.note_excuses();
    }

    /// Notes what may excuse errors of the I/O that is outstanding now.
    fn note_excuses(&mut self) {
        p5::note_late(&mut self.model);
        if world::now() < self.sessions_end_until_us {
            self.model.excuses.session_lost = world::stamp();
        }
    }

    /// Checks what happened since the last call.
    pub(crate) fn check_promises(&mut self) {
        let records = record::take();
        if records.is_empty() {
            return;
        }
        self.set_clocks();
        for record in records {
            self.promises.check(&mut self.model, &record);
            self.follow(&record);
        }
    }

    fn follow(&mut self, record: &Record) {
        let by_disk = |clients: &[ClientSide], disk: u64| clients.iter().position(|c| c.disk == Some(disk));
        match *record {
            Record::DiskIsThere { process, disk, .. } => {
                if let Some(client) = self.clients.iter().position(|c| c.process == process) {
                    let target = &self.targets[self.clients[client].target];
                    self.clients[client].store = target.store_of(user::uuid(disk));
                    self.clients[client].disk = Some(disk);
                    self.model.clients[client].contact = Contact::began(self.clocks(client));
                    self.answers[client].set(None);
                    // A bdev whose target has been replaced since the client was admitted will soon
                    // fail.
                    // An owner is not told before its export is taken over.
                    self.model.clients[client].may_fail = self.plan.is_owned
                        || target.other.is_some()
                        || self.clients[client].store != target.exported_store()
                        || world::now() < self.trouble_us + 3 * self.plan.lease_us();
                    self.seats[client].iter_mut().for_each(|seat| *seat = ThreadUse::wanted());
                    self.tend(client);
                }
            }
            Record::DiskGoes { disk, .. } => {
                if let Some(client) = by_disk(&self.clients, disk) {
                    p5::bdev_goes(&self.model.clients[client]);
                    self.model.clients[client].may_fail = true;
                    self.tend(client);
                }
            }
            Record::DiskGone { disk, .. } => {
                if let Some(client) = by_disk(&self.clients, disk) {
                    self.clients[client].disk = None;
                    self.promises.forget(client);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn undo_at(&self, for_us: u64, index: usize) {
        world::timer(world::now() + for_us, UNDO | index as u64);
    }

    fn timer(&mut self, key: u64) {
        let index = (key & 0xffff_ffff) as usize;
        match key & !0xffff_ffff {
            THINK => self.think(index >> 8, index & 0xff),
            STRIKE if self.stage == Stage::Faults => self.strike(index),
            UNDO if self.stage == Stage::Faults => self.undo(self.plan.faults[index].1),
            TICK => {
                self.tick();
                world::timer(world::now() + TICK_US, TICK);
            }
            _ => {}
        }
    }

    /// Submits a thread's next I/Os if there is room, and sets the time of the next attempt.
    fn think(&mut self, client: usize, thread: usize) {
        let again = world::now() + 1 + world::dice(|r| r.below(self.plan.think_us));
        if self.ios_left > 0 && matches!(self.stage, Stage::Faults | Stage::Recovery { .. }) {
            world::timer(again, THINK | (client as u64) << 8 | thread as u64);
        }
        let Some(by) = self.user(client, thread) else { return };
        let outstanding = self.model.outstanding.iter().filter(|&&number| {
            let io = &self.model.ios[number as usize - 1];
            io.client == client && io.thread == by.thread
        });
        let mut room = self.plan.user_depth.saturating_sub(outstanding.count());
        if self.plan.paced && self.stage == Stage::Faults {
            let since_us = world::now() - self.began_us;
            let due = self.plan.ios * since_us / self.plan.length_us + self.plan.user_depth as u64;
            let done = self.plan.ios - self.ios_left;
            room = room.min(due.saturating_sub(done) as usize);
        }
        for _ in 0..room.min(1 + world::dice(|r| r.index(2))) {
            if self.ios_left > 0 {
                self.ios_left -= 1;
                users::submit_random(&self.plan, &mut self.model, &mut self.used, by);
            }
        }
    }

    fn user(&self, client: usize, thread: usize) -> Option<User> {
        seats::user(&self.seats[client], client, &self.clients[client], thread)
    }

    fn tend(&mut self, client: usize) {
        seats::tend(&mut self.seats[client], &self.clients[client]);
    }

    fn tick(&mut self) {
        self.set_clocks();
        for client in 0..self.clients.len() {
            self.tend(client);
            self.look_after(client);
            self.ask_contact(client);
        }
        p5::check_deadlines(&self.model, &self.plan);
        p10::check_stops(&self.model, &self.plan);
        self.check_targets();
        self.release_unknown();
        if self.exports_change {
            for target in &mut self.targets {
                if target.exported {
                    target.make_export(&self.plan);
                }
            }
        }
        match self.stage {
            Stage::Recovery { until } => {
                self.well = if self.is_well() { self.well + 1 } else { 0 };
                if self.well > WELL {
                    self.begin_read_back();
                    self.stage = Stage::ReadBack { until: world::now() + p5::RECOVERY_US };
                } else if world::now() > until {
                    let states: Vec<String> = self.states.iter().map(|s| s.borrow().clone()).collect();
                    p5::not_recovered(&self.model, &states);
                }
            }
            Stage::ReadBack { until } => self.check_read_back(until),
            Stage::TearDown { until } => self.check_tear_down(until),
            Stage::Faults | Stage::Over => {}
        }
    }

    /// Checks the limits on targets: the time that a deletion takes, and the number of sockets.
    fn check_targets(&mut self) {
        for target in &mut self.targets {
            p10::check_export(&self.plan, target.deleting_for_us());
            p9::check_sockets(&self.plan, target.process);
        }
    }

    /// Creates a client's bdev if it should exist and does not, and checks a deletion in progress.
    fn look_after(&mut self, client: usize) {
        let active = self.active_us(client);
        let side = &mut self.clients[client];
        // If the client's clock is slow, it may fall behind the time that is left out.
        let deleting_us = active.saturating_sub(side.delete_began);
        if !process::is_alive(side.process) {
            side.deleted = None;
            return;
        }
        if let Some(deleted) = side.deleted.clone() {
            if deleted.borrow().is_some() {
                side.deleted = None;
                side.created = None;
            } else {
                p10::check_bdev(&self.plan, client, deleting_us);
            }
            return;
        }
        let failed = side.created.as_ref().is_none_or(|told| matches!(*told.borrow(), Some(Err(_))));
        let removed = side.created.as_ref().is_some_and(|told| matches!(*told.borrow(), Some(Ok(()))));
        if side.wanted && side.disk.is_none() && (failed || removed) {
            // A takeover is used up even if another one came before it.
            side.takes_over |= matches!(self.stage, Stage::Recovery { .. });
            side.create(&self.plan);
        }
        side.ask_state(&self.states[client]);
        let is_failed = *self.states[client].borrow() == "failed";
        if is_failed && self.clients[client].wanted && matches!(self.stage, Stage::Recovery { .. }) {
            self.delete_bdev(client);
            self.clients[client].wanted = true;
            self.clients[client].takes_over = true;
        }
    }

    /// Returns whether everything is as if nothing had gone wrong.
    fn is_well(&self) -> bool {
        let seated = |client: usize| {
            let side = &self.clients[client];
            side.deleted.is_none()
                && side.disk.is_some_and(|disk| side.threads.iter().all(|&t| user::is_open(disk, t)))
                // Otherwise the client has not learned yet that the target has another device.
                && side.store == self.targets[side.target].exported_store()
        };
        let is_wanted = |client: &usize| self.clients[*client].wanted;
        let is_connected = |client: usize| *self.states[client].borrow() == "connected";
        self.model.outstanding.is_empty()
            && (0..self.clients.len()).filter(is_wanted).all(|client| seated(client) && is_connected(client))
    }

    fn begin_read_back(&mut self) {
        world::note(|| "all is well; all blocks are read".to_owned());
        self.ios_left = 0;
        user::forget_inside();
        for client in 0..self.clients.len() {
            let Some(by) = self.user(client, 0) else { continue };
            let blocks = user::num_blocks(by.disk);
            for offset in (0..blocks).step_by(8) {
                let what = (IoKind::Read, offset, 8.min(blocks - offset));
                self.read_back.push(users::submit(&self.plan, &mut self.model, by, what, false));
            }
        }
    }

    fn check_read_back(&mut self, until: u64) {
        let is_late = world::now() > until;
        if !p5::check_read_back(&self.model, &self.plan, &self.read_back, is_late) {
            return;
        }
        if !self.plan.tear_down {
            self.stage = Stage::Over;
            return;
        }
        self.stage = Stage::TearDown { until: world::now() + p10::TEAR_DOWN_US };
        self.exports_change = false;
        for client in 0..self.clients.len() {
            self.delete_bdev(client);
        }
    }

    fn check_tear_down(&mut self, until: u64) {
        let gone = self.clients.iter().all(|c| c.deleted.is_none() && c.disk.is_none());
        if gone && self.stopped.is_empty() {
            self.stopped = self.targets.iter().map(TargetSide::stop).collect();
        }
        let all_told = !self.stopped.is_empty() && self.stopped.iter().all(|told| told.borrow().is_some());
        let open: usize = self.targets.iter().map(|t| spdk::bdev::open_count(t.process)).sum();
        if all_told && open == 0 && !self.targets.iter().any(|t| store::is_busy(t.store)) {
            self.stage = Stage::Over;
        } else if world::now() > until {
            p10::not_taken_down(gone, all_told, open);
        }
    }
}
