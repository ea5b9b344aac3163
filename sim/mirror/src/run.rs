//! Runs one seed from its beginning to its end.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dst_mirror::mutation::{self, Mutation};
use dst_mirror::report::Condition;
use dst_mirror::{Input, Op, Outcome as Ending};
use world::rng::Rng;

use crate::checks;
use crate::disk::{Content, Disk};
use crate::model::{FIRST_WRITE, Model};
use crate::owner::{Do, Owner, UserIo, device_of};
use crate::plan::{FAULTS_US, Fault, Plan};
use crate::target::{Status, Target, What};
use crate::world::{Event, Host, Notice, World};

/// The interval at which the run looks how things are.
pub const LOOK_US: u64 = 20_000;

/// The time for which a mirror may take to be whole again once the faults are over.
const RECOVERY_US: u64 = 200_000_000;

/// The number of events after which a run is broken off: many times that of the longest good one.
const STEPS_MAX: u64 = 3_000_000;

const METADATA_BYTES: u64 = (8 << 20) + (128 << 10);
const WITNESS_BYTES: u64 = 128 << 10;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule's number in docs/mirror.md, or what else is broken.
    pub rule: String,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// What runs have counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events.
    pub steps: u64,
    /// Users' I/Os that ended.
    pub ios: u64,
    /// Users' I/Os that ended with an error.
    pub failed: u64,
    /// How often a mirror was assembled.
    pub assemblies: u64,
    /// Bytes that were copied from member to member.
    pub copied: u64,
    /// Members in sync that fell out.
    pub departures: u64,
    /// Blocks of which unflushed writes were lost everywhere, as a disk may lose them.
    pub excused: u64,
}

impl Totals {
    /// Adds what another run has counted.
    pub fn add(&mut self, other: &Totals) {
        self.steps += other.steps;
        self.ios += other.ios;
        self.failed += other.failed;
        self.assemblies += other.assemblies;
        self.copied += other.copied;
        self.departures += other.departures;
        self.excused += other.excused;
    }
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first violation.
    pub violation: Option<Violation>,
    /// What was counted.
    pub totals: Totals,
    /// A digest of everything that happened, the same for each run of a seed.
    pub digest: u64,
    /// The last part of what happened.
    pub history: Vec<String>,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Faults occur.
    Faults,
    /// No more faults occur; all members must be in sync before `until`.
    Recovery {
        until: u64,
    },
    /// All blocks are read, so many times.
    ReadBack {
        until: u64,
        left: usize,
    },
    Over,
}

/// A user.
#[derive(Debug, Default, Clone, Copy)]
struct User {
    busy: bool,
}

/// A run.
pub struct Run {
    pub(crate) plan: Plan,
    pub(crate) world: World,
    pub(crate) model: Model,
    pub(crate) owners: Vec<Option<Owner>>,
    pub(crate) totals: Totals,
    /// The members that were last known to be in sync.
    pub(crate) in_sync: Vec<bool>,
    /// Members that hold writes which those whose data count now lack: the operator has decided
    /// against them while they were away. Nothing of theirs is overwritten until the operator says
    /// so while they are there.
    pub(crate) diverged: Vec<bool>,
    /// When the last fault began or ended.
    pub(crate) trouble_us: u64,
    /// Whether all was well at the last look.
    pub(crate) was_whole: bool,
    /// The only target that has been in trouble since a time, at which all was well.
    pub(crate) alone_since: Option<(usize, u64)>,
    violation: Option<Violation>,
    created: bool,
    /// Writes of processes that are gone: what they have changed by the time that the mirror is
    /// assembled again, they have.
    adrift: Vec<(u64, std::ops::Range<u64>)>,
    users: Vec<User>,
    ios_left: u64,
    next_number: u64,
    next_process: u32,
    /// Whether the operator has ever decided whose data count.
    is_forced: bool,
    stage: Stage,
    read_back: Vec<u64>,
    idle_since: u64,
}

/// Runs a plan, with one protection removed if a mutation is given.
pub fn run(plan: &Plan, mutation: Option<Mutation>, history: bool) -> Outcome {
    mutation::set(mutation);
    let mut outcome = Outcome::default();
    let mut run = Run::new(plan.clone(), history);
    let result = catch_unwind(AssertUnwindSafe(|| run.finish()));
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        run.violation = Some(Violation { rule: "panic".to_owned(), text: text.unwrap_or_default() });
    }
    mutation::set(None);
    run.totals.steps = run.world.steps;
    for owner in run.owners.iter().flatten().filter(|_| run.violation.is_none()) {
        run.totals.copied += owner.copied;
        run.totals.departures += owner.mirror.report().counts.departures;
    }
    outcome.totals = run.totals;
    outcome.digest = run.world.digest;
    outcome.violation = run.violation.take();
    outcome.history = run.world.history.take().map(Vec::from).unwrap_or_default();
    outcome
}

impl Run {
    fn new(plan: Plan, history: bool) -> Run {
        let mut world = World::new(Rng::new(plan.seed), plan.lease_us, plan.patience_us, history);
        let size = u64::from(plan.block_size);
        for target in 0..plan.targets() {
            let is_witness = target == plan.members;
            let bytes = if is_witness { WITNESS_BYTES } else { METADATA_BYTES };
            let data = if is_witness { 0 } else { plan.blocks };
            let initial = if plan.dirty { target as u64 + 1 } else { 0 };
            let cache = plan.caches.get(target).copied().unwrap_or(true);
            let disk = Disk::new(plan.block_size, data + bytes / size, cache, Content::Write(initial));
            world.targets.push(Target::new(disk, plan.latency_us[target]));
        }
        for host in 0..plan.hosts {
            let unreachable = (0..plan.targets()).map(|target| plan.local && target == 0 && host != 0);
            world.hosts.push(Host::new(plan.targets(), unreachable.collect()));
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            world.at(*at, Event::Strike { index });
        }
        world.at(0, Event::Start { host: 0 });
        world.at(LOOK_US, Event::Look);
        for user in 0..plan.depth {
            world.at(1_000, Event::Think { user });
        }
        Run {
            model: Model::new(u64::from(plan.dirty)),
            owners: (0..plan.hosts).map(|_| None).collect(),
            totals: Totals::default(),
            in_sync: vec![false; plan.members],
            diverged: vec![false; plan.members],
            trouble_us: 0,
            was_whole: false,
            alone_since: None,
            violation: None,
            created: false,
            adrift: Vec::new(),
            users: vec![User::default(); plan.depth],
            ios_left: plan.ios,
            next_number: FIRST_WRITE,
            next_process: 1,
            is_forced: false,
            stage: Stage::Faults,
            read_back: Vec::new(),
            idle_since: 0,
            world,
            plan,
        }
    }

    fn finish(&mut self) {
        while self.violation.is_none() && self.stage != Stage::Over {
            let Some(event) = self.world.pop() else {
                return self.violate("time", "nothing happens any more".to_owned());
            };
            if self.world.steps > STEPS_MAX {
                return self.violate("time", format!("{STEPS_MAX} events, and no end"));
            }
            self.happen(event);
            self.deliver();
        }
    }

    /// Records a violation, unless there was one.
    pub(crate) fn violate(&mut self, rule: &str, text: String) {
        self.world.note(|| format!("VIOLATION {rule}: {text}"));
        self.violation.get_or_insert(Violation { rule: rule.to_owned(), text });
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Execute { target, op } => self.world.execute(target, op),
            Event::Finish { target, op } => self.world.finish(target, op),
            Event::Attach { host, process, target } => self.world.attach(host, process, target),
            Event::Fence { host, process, target, then } => self.world.fence(host, process, target, then),
            Event::Patience { host, process, target, trouble } => {
                self.world.lose_patience(host, process, target, trouble);
            }
            Event::PowerBack { target, losses } => {
                if self.world.targets[target].losses == losses {
                    self.trouble_us = self.world.now;
                    self.world.power_on(target);
                }
            }
            Event::Heal { host, target } => {
                self.trouble_us = self.world.now;
                self.world.heal(host, target, false);
            }
            Event::Well { target } => {
                self.trouble_us = self.world.now;
                (self.world.targets[target].slow, self.world.targets[target].errors) = (1, 0);
            }
            Event::Start { host } => self.start(host),
            Event::Continue { host, process } => {
                let at = &mut self.world.hosts[host];
                if at.process == process && at.stopped {
                    at.stopped = false;
                    self.trouble_us = self.world.now;
                    self.world.note(|| format!("host {host} is continued"));
                    self.tick(host, process);
                }
            }
            Event::Tick { host, process } => self.tick(host, process),
            Event::Think { user } => self.think(user),
            Event::Strike { index } => {
                let fault = self.plan.faults[index].1;
                self.strike(fault);
            }
            Event::Look => self.look(),
        }
    }

    fn tick(&mut self, host: usize, process: u32) {
        let at = &self.world.hosts[host];
        if !at.alive || at.stopped || at.process != process {
            return;
        }
        let now = self.world.now;
        if let Some(owner) = &mut self.owners[host]
            && owner.tick_at.is_some_and(|at| at <= now)
        {
            owner.tick_at = None;
            self.tell(host, Input::Tick);
        }
    }

    /// Tells processes what they are to be told.
    fn deliver(&mut self) {
        for host in 0..self.world.hosts.len() {
            while self.violation.is_none() {
                let at = &mut self.world.hosts[host];
                if !at.alive || at.stopped {
                    break;
                }
                let Some(notice) = at.inbox.pop_front() else { break };
                self.notice(host, notice);
            }
        }
    }

    fn notice(&mut self, host: usize, notice: Notice) {
        let Some(owner) = &mut self.owners[host] else { return };
        let device = |target| device_of(&self.plan, target);
        let input = match notice {
            Notice::Opened { target } => {
                owner.opened[target] = true;
                let disk = &self.world.targets[target].disk;
                let (blocks, block_size) = (disk.num_blocks, disk.block_size);
                Input::Opened { device: device(target), blocks, block_size }
            }
            Notice::Gone { target } => {
                owner.opened[target] = false;
                Input::Gone { device: device(target) }
            }
            Notice::Refused { target } => {
                owner.opened[target] = false;
                owner.refused = true;
                self.world.hosts[host].wants = false;
                Input::Refused { device: device(target) }
            }
            Notice::CacheLost { target } => Input::CacheLost { device: device(target) },
            Notice::Done { request, status, data, .. } => {
                if status == Status::Refused {
                    owner.refused = true;
                    self.world.hosts[host].wants = false;
                }
                let ending = match status {
                    Status::Success => Ending::Success,
                    Status::Failed | Status::Aborted => Ending::Failed,
                    Status::Refused => Ending::Refused,
                };
                match owner.done(request, ending, data) {
                    Ok(input) => input,
                    Err(text) => return self.violate("simulator", text),
                }
            }
            Notice::ResetDone { target } => {
                let Some(request) = owner.reset_done(target) else { return };
                match owner.done(request, Ending::Success, Vec::new()) {
                    Ok(input) => input,
                    Err(text) => return self.violate("simulator", text),
                }
            }
        };
        self.tell(host, input);
    }

    /// Tells a mirror something, and does what it wants done.
    pub(crate) fn tell(&mut self, host: usize, input: Input) {
        let now = self.world.now;
        let Some(owner) = &mut self.owners[host] else { return };
        owner.mirror.handle(now, input);
        while self.violation.is_none() {
            let Some(owner) = &mut self.owners[host] else { break };
            let Some(output) = owner.mirror.poll_output() else { break };
            match owner.carry_out(now, output) {
                Ok(what) => self.perform(host, what),
                Err(text) => {
                    let (rule, text) = text.split_once(": ").unwrap_or(("output", &text));
                    self.violate(rule, text.to_owned());
                }
            }
        }
        checks::members_in_sync(self, host);
        let Some(owner) = &mut self.owners[host] else { return };
        let deadline = owner.mirror.next_deadline();
        if let Some(at) = deadline
            && owner.tick_at != deadline
        {
            owner.tick_at = deadline;
            let process = self.world.hosts[host].process;
            self.world.at(at, Event::Tick { host, process });
        }
    }

    fn perform(&mut self, host: usize, what: Do) {
        match what {
            Do::Send { target, request, what } => {
                if self.diverged.get(target) == Some(&true)
                    && matches!(&what, What::Write { start, .. } if *start < self.plan.blocks)
                {
                    self.violate("8", format!("member {target} has diverged and is overwritten: {what:?}"));
                }
                self.world.submit(host, target, request, what);
            }
            Do::Reset { target, .. } => self.world.reset(host, target),
            Do::Close { target } => self.world.close(host, target),
            Do::Register => self.registered(host),
            Do::Complete { io, success } => self.completed(host, &io, success),
            Do::Ended(why) => self.world.note(|| format!("host {host}: ended: {why}")),
            Do::Stopped => {
                self.world.note(|| format!("host {host}: stopped"));
                self.crash(host, 100_000);
            }
            Do::Log(text) => self.world.note(|| format!("host {host}: {text}")),
        }
    }

    /// The mirror is assembled.
    fn registered(&mut self, host: usize) {
        self.world.note(|| format!("host {host}: the mirror can be used"));
        self.created = true;
        self.totals.assemblies += 1;
        let now = self.world.stamp();
        for (other, owner) in self.owners.iter_mut().enumerate() {
            let Some(owner) = owner.as_mut().filter(|_| other != host) else { continue };
            owner.superseded = true;
            let writes = owner.ios.values().filter(|io| matches!(io.op, Op::Write | Op::WriteZeroes));
            self.adrift.extend(writes.map(|io| (io.number, io.blocks())));
        }
        checks::assembled(self, host, now);
        for (write, blocks) in std::mem::take(&mut self.adrift) {
            self.model.settle(write, blocks, now);
        }
    }

    fn completed(&mut self, host: usize, io: &UserIo, success: bool) {
        self.world
            .note(|| format!("host {host}: I/O {} {}", io.number, if success { "done" } else { "failed" }));
        self.totals.ios += 1;
        self.totals.failed += u64::from(!success);
        self.users[io.user].busy = false;
        let think = self.world.rng.below(self.plan.think_us);
        self.world.after(think, Event::Think { user: io.user });
        if !success && (self.plan.faults.is_empty() || self.stage != Stage::Faults && self.is_long_well()) {
            return self.violate("11", format!("I/O {} failed, and nothing is wrong", io.number));
        }
        checks::completed(self, host, io, success);
    }

    /// Returns whether nothing has gone wrong for a time.
    fn is_long_well(&self) -> bool {
        self.world.now > self.trouble_us + 10_000_000
    }

    /// A process drops its mirror.
    fn abandon(&mut self, host: usize) {
        let Some(owner) = self.owners[host].take() else { return };
        self.totals.copied += owner.copied;
        self.totals.departures += owner.mirror.report().counts.departures;
        for io in owner.ios.into_values() {
            if matches!(io.op, Op::Write | Op::WriteZeroes) {
                self.adrift.push((io.number, io.blocks()));
            }
            self.users[io.user].busy = false;
            let pause = self.world.rng.below(200_000);
            self.world.after(pause, Event::Think { user: io.user });
        }
    }

    fn crash(&mut self, host: usize, for_us: u64) {
        if self.world.hosts[host].alive {
            self.world.crash(host);
            self.abandon(host);
            self.world.after(for_us, Event::Start { host });
        }
    }

    /// A host's process starts. The first host's creates the mirror, or assembles it.
    fn start(&mut self, host: usize) {
        if self.world.hosts[host].alive {
            return;
        }
        let process = self.next_process;
        self.next_process += 1;
        self.world.start(host, process);
        // A standby does nothing until it takes over. It is one as long as another host has all.
        let is_standby = !self.created && host != 0
            || self.owners.iter().enumerate().any(|(other, owner)| other != host && owner.is_some());
        if !is_standby {
            self.own(host, false, None);
        }
    }

    /// A process creates or assembles the mirror.
    fn own(&mut self, host: usize, takes: bool, force: Option<usize>) {
        self.idle_since = self.world.now;
        let owner = Owner::new(&self.plan, !self.created, force, &mut self.world.rng);
        self.owners[host] = Some(owner);
        let at = &mut self.world.hosts[host];
        (at.wants, at.takes) = (true, takes);
        self.world.note(|| format!("host {host}: creates or assembles the mirror, takes: {takes}"));
        self.tell(host, Input::Tick);
        self.world.open_all(host);
    }

    fn strike(&mut self, fault: Fault) {
        self.world.note(|| format!("{fault:?}"));
        self.trouble_us = self.world.now;
        match fault {
            Fault::Power { member, for_us } => self.power(member, for_us),
            Fault::PowerAll { members, for_us } => {
                for target in 0..self.plan.targets() {
                    if members & 1 << target != 0 {
                        self.power(target, for_us);
                    }
                }
            }
            Fault::Cut { host, member, for_us } => self.world.cut(host, member, for_us),
            Fault::Vanish { host, member, for_us } => self.world.vanish(host, member, for_us),
            Fault::Slow { member, factor, for_us } => {
                self.world.targets[member].slow = factor;
                self.world.after(for_us, Event::Well { target: member });
            }
            Fault::Errors { member, per_mille, for_us } => {
                self.world.targets[member].errors = per_mille;
                self.world.after(for_us, Event::Well { target: member });
            }
            Fault::BadBlock { member, hot } => {
                let block = self.plan.hot[hot];
                // Blocks that no member can read are lost, which says nothing about the mirror.
                if self.world.targets.iter().all(|target| target.bad.is_empty()) {
                    self.world.targets[member].bad.insert(block);
                }
            }
            Fault::Crash { host, for_us } => self.crash(host, for_us),
            Fault::Machine { host, for_us } => {
                self.crash(host, for_us + 1);
                if host == 0 && self.plan.local {
                    self.power(0, for_us);
                }
            }
            Fault::Stop { host, for_us } => {
                let at = &mut self.world.hosts[host];
                if at.alive && !at.stopped {
                    at.stopped = true;
                    let process = at.process;
                    self.world.after(for_us, Event::Continue { host, process });
                }
            }
            Fault::Takeover { host } => self.take_over(host),
        }
    }

    fn power(&mut self, target: usize, for_us: u64) {
        self.world.power_off(target, for_us);
        checks::excuse_losses(self);
    }

    fn take_over(&mut self, host: usize) {
        let at = &self.world.hosts[host];
        if at.alive && !at.stopped && self.owners[host].is_none() && self.created {
            self.own(host, true, None);
        }
    }

    /// A user submits an I/O, if there is a mirror.
    fn think(&mut self, user: usize) {
        if self.users[user].busy {
            return;
        }
        let usable: Vec<usize> = (0..self.plan.hosts)
            .filter(|&host| self.world.hosts[host].alive && !self.world.hosts[host].stopped)
            .filter(|&host| self.owners[host].as_ref().is_some_and(Owner::is_usable))
            .collect();
        if usable.is_empty() {
            return self.world.after(20_000, Event::Think { user });
        }
        let host = self.world.rng.pick(&usable);
        let (op, start, count) = match self.stage {
            Stage::ReadBack { .. } => match self.read_back.pop() {
                Some(block) => (Op::Read, block, 1),
                None => return,
            },
            _ if self.ios_left == 0 => return,
            _ => self.choose(),
        };
        self.submit(host, user, op, start, count);
    }

    /// Returns a random I/O.
    fn choose(&mut self) -> (Op, u64, u64) {
        let r = &mut self.world.rng;
        self.ios_left -= 1;
        if r.chance(self.plan.flushes) {
            return (Op::Flush, 0, 0);
        }
        let start = r.pick(&self.plan.hot);
        let most = if r.chance(700) { 1 } else { 5 };
        let count = r.range(1, most).min(self.plan.blocks - start);
        let op = match r.below(100) {
            0..=44 => Op::Read,
            45..=94 => Op::Write,
            _ => Op::WriteZeroes,
        };
        let is_doubled = self.owners.iter().flatten().any(|owner| {
            owner.ios.values().any(|io| (io.op, io.start, io.count) == (Op::WriteZeroes, start, count))
        });
        (if op == Op::WriteZeroes && is_doubled { Op::Read } else { op }, start, count)
    }

    fn submit(&mut self, host: usize, user: usize, op: Op, start: u64, count: u64) {
        let number = self.next_number;
        self.next_number += 1;
        let since = (self.world.stamp(), self.world.now);
        let io = UserIo { user, number, op, start, count, since, data: Vec::new(), in_use: 0 };
        self.world.note(|| format!("host {host}: user {user}: I/O {number} {op:?} {start}+{count}"));
        if matches!(op, Op::Write | Op::WriteZeroes) {
            self.model.submit(number, io.blocks(), since.0);
        }
        self.users[user].busy = true;
        if let Some(owner) = &mut self.owners[host] {
            let input = owner.submit(io);
            self.tell(host, input);
        }
    }

    /// Looks how things are, and goes on to the next stage.
    fn look(&mut self) {
        self.world.after(LOOK_US, Event::Look);
        checks::look(self);
        self.operate();
        let now = self.world.now;
        let whole = self.whole();
        match self.stage {
            Stage::Faults if now > FAULTS_US || self.plan.faults.is_empty() && self.ios_left == 0 => {
                self.stage = Stage::Recovery { until: now + RECOVERY_US };
                self.heal();
            }
            Stage::Recovery { until } => {
                let is_idle = self.users.iter().all(|user| !user.busy);
                if whole.is_some() && is_idle && self.ios_left == 0 {
                    self.stage = Stage::ReadBack { until: now + RECOVERY_US, left: 2 };
                } else if now > until {
                    let reports: Vec<_> =
                        self.owners.iter().map(|owner| owner.as_ref().map(|o| o.mirror.report())).collect();
                    self.violate("recovery", format!("idle {is_idle}, not whole: {reports:?}"));
                }
            }
            Stage::ReadBack { until, left } if self.read_back.is_empty() => {
                if self.users.iter().any(|user| user.busy) {
                    if now > until {
                        self.violate("recovery", "blocks cannot be read".to_owned());
                    }
                } else if left == 0 {
                    checks::members_are_equal(self);
                    self.stage = Stage::Over;
                } else {
                    self.stage = Stage::ReadBack { until, left: left - 1 };
                    self.read_back = self.model.known();
                    for user in 0..self.users.len() {
                        self.world.after(1, Event::Think { user });
                    }
                }
            }
            Stage::ReadBack { .. } => {
                for user in 0..self.users.len() {
                    self.world.after(1, Event::Think { user });
                }
            }
            _ => {}
        }
    }

    /// Returns the host whose mirror has all members in sync.
    fn whole(&self) -> Option<usize> {
        (0..self.plan.hosts).find(|&host| {
            self.owners[host].as_ref().is_some_and(|owner| {
                let reachable = self.world.hosts[host].unreachable.iter().filter(|is| !**is).count();
                let wanted = reachable - usize::from(self.plan.witness);
                owner.is_usable()
                    && !owner.superseded
                    && checks::in_sync(&self.plan, owner).iter().filter(|is| **is).count() >= wanted
            })
        })
    }

    /// Ends all faults.
    fn heal(&mut self) {
        self.trouble_us = self.world.now;
        for target in 0..self.plan.targets() {
            self.world.power_on(target);
            let at = &mut self.world.targets[target];
            (at.slow, at.errors) = (1, 0);
            at.bad.clear();
            for host in 0..self.plan.hosts {
                self.world.heal(host, target, true);
            }
        }
        for host in 0..self.plan.hosts {
            let process = self.world.hosts[host].process;
            self.happen(Event::Continue { host, process });
            self.start(host);
        }
    }

    /// Does what an operator, or a cluster manager, does: drops mirrors that are lost, and has a
    /// host assemble the mirror if none has it.
    fn operate(&mut self) {
        let now = self.world.now;
        for host in 0..self.plan.hosts {
            let is_over = self.owners[host].as_ref().is_some_and(|owner| owner.ended && owner.ios.is_empty());
            let at = &self.world.hosts[host];
            if is_over && at.alive && !at.stopped {
                self.world.hosts[host].wants = false;
                self.tell(host, Input::Stop { wipe: false });
            }
        }
        if self.owners.iter().flatten().any(|owner| owner.is_usable() && !owner.superseded) {
            self.idle_since = now;
        }
        if self.stage != Stage::Faults && self.is_split() {
            // The operator decides for the member that is in use, while all are there.
            let host = (0..self.plan.hosts).find(|&host| self.owners[host].as_ref().is_some_and(Owner::is_usable));
            let member = self.in_sync.iter().position(|is| *is);
            if let (Some(host), true) = (host, now > self.idle_since + 3_000_000) {
                self.force(host, member.unwrap_or(0));
            }
        } else if self.owners.iter().flatten().any(|owner| owner.is_usable() && !owner.superseded) {
            self.idle_since = now;
        } else if now > self.idle_since + 3_000_000 {
            self.idle_since = now;
            let able: Vec<usize> = (0..self.plan.hosts)
                .filter(|&host| self.world.hosts[host].alive && !self.world.hosts[host].stopped)
                .filter(|&host| self.created || host == 0)
                .collect();
            if able.is_empty() {
                return;
            }
            let host = self.world.rng.pick(&able);
            let member = self.world.rng.index(self.plan.members);
            let may_force = self.created && (self.plan.forces || self.stage != Stage::Faults && self.is_forced);
            match &self.owners[host] {
                None => self.own(host, true, None),
                Some(owner) if owner.ended => {}
                Some(owner) if may_force && owner.opened[member] => self.force(host, member),
                Some(_) => {
                    self.world.hosts[host].takes = true;
                    self.world.open_all(host);
                }
            }
        }
    }

    /// Returns whether a mirror that is in use sees a member that it must not use.
    fn is_split(&self) -> bool {
        self.owners.iter().flatten().filter(|owner| owner.is_usable() && !owner.superseded).any(|owner| {
            let members = owner.mirror.report().members;
            members.iter().any(|member| matches!(member.condition, Condition::Unusable { .. }))
        })
    }

    /// The operator decides whose data count.
    fn force(&mut self, host: usize, member: usize) {
        self.is_forced = true;
        self.world.crash(host);
        self.abandon(host);
        let process = self.next_process;
        self.next_process += 1;
        self.world.start(host, process);
        self.own(host, true, Some(member));
    }
}
