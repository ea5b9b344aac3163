//! Targets, the hosts that use them, and the links between: what happens to operations on their
//! way, and what a host's process is told.
//!
//! A process is told of things by [`Notice`]s, in order. An operation is executed when the target
//! has received it, and ends when the process has received the answer. A link that is cut delays
//! both; a power loss has operations that were not answered executed again, after the process was
//! told that the cache is lost.

use std::collections::{BTreeMap, VecDeque};

use world::rng::Rng;

use crate::disk::Content;
use crate::target::{Op, Status, Target, What};

/// Something that happens at a time.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An operation arrives at a target.
    Execute { target: usize, op: u64 },
    /// The answer to an operation arrives.
    Finish { target: usize, op: u64 },
    /// A process tries to open a target.
    Attach { host: usize, process: u32, target: usize },
    /// Nothing of a process is executed at a target any more.
    Fence { host: usize, process: u32, target: usize, then: Then },
    /// A process gives a target up, unless it can reach the target or could in the meantime.
    Patience { host: usize, process: u32, target: usize, trouble: u64 },
    /// A target's power returns.
    PowerBack { target: usize, losses: u64 },
    /// A link works again.
    Heal { host: usize, target: usize },
    /// A target is as fast as usual, and fails nothing, again.
    Well { target: usize },
    /// A host's process starts.
    Start { host: usize },
    /// A stopped process continues.
    Continue { host: usize, process: u32 },
    /// The mirror of a process has asked for a turn.
    Tick { host: usize, process: u32 },
    /// A user may submit an I/O.
    Think { user: usize },
    /// A fault of the plan occurs.
    Strike { index: usize },
    /// The run looks how things are.
    Look,
}

/// What a fence is for.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The target is closed, and opened again after a time.
    Close { again_us: u64 },
    /// The process has asked for the end of its operations.
    Reset,
    /// The process is dead.
    Nothing,
}

/// What a process is told.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The target is open.
    Opened { target: usize },
    /// The target's bdev is removed.
    Gone { target: usize },
    /// The target belongs to another host now.
    Refused { target: usize },
    /// The target may have lost what was not flushed.
    CacheLost { target: usize },
    /// An operation has ended.
    Done { target: usize, request: u64, status: Status, data: Vec<Content> },
    /// The reset of a target has ended.
    ResetDone { target: usize },
}

/// A target as a process has it.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bdev {
    /// The target is not there.
    Absent,
    /// The target is there. The process knows of so many losses of the power.
    Open { losses: u64 },
    /// Operations are still to end.
    Closing,
}

/// A host and its process.
#[derive(Debug)]
pub struct Host {
    /// The number of the present process, or of the last one.
    pub process: u32,
    /// Whether the process runs.
    pub alive: bool,
    /// Whether the process is stopped.
    pub stopped: bool,
    /// What the process is to be told.
    pub inbox: VecDeque<Notice>,
    /// The targets, as the process has them.
    pub bdevs: Vec<Bdev>,
    /// For each target, until when the link is cut; 0: it works.
    pub cut_until: Vec<u64>,
    /// Targets that the host can never reach.
    pub unreachable: Vec<bool>,
    /// Whether the process takes targets from other hosts that it has not had so far.
    pub takes: bool,
    /// The targets that the process has had.
    pub had: Vec<bool>,
    /// For each target, the number of the present trouble with it; 0: none.
    pub trouble: Vec<u64>,
    /// Whether the process wants the targets at all.
    pub wants: bool,
}

impl Host {
    /// Returns a host without a process.
    pub fn new(targets: usize, unreachable: Vec<bool>) -> Host {
        Host {
            process: 0,
            alive: false,
            stopped: false,
            inbox: VecDeque::new(),
            bdevs: vec![Bdev::Absent; targets],
            cut_until: vec![0; targets],
            unreachable,
            takes: false,
            had: vec![false; targets],
            trouble: vec![0; targets],
            wants: false,
        }
    }
}

/// Targets, hosts and links.
pub struct World {
    /// The world's dice.
    pub rng: Rng,
    /// The time, in microseconds.
    pub now: u64,
    /// The number of events so far.
    pub steps: u64,
    /// The targets.
    pub targets: Vec<Target>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The longest time for which operations of a lost connection may still be executed.
    pub lease_us: u64,
    /// The time for which a process waits for a target that it cannot reach.
    pub patience_us: u64,
    /// What has happened, if anybody wants to know.
    pub history: Option<VecDeque<String>>,
    /// A digest of what has happened.
    pub digest: u64,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    trouble: u64,
}

/// The lines of a history.
const HISTORY: usize = 20_000;

impl World {
    /// Returns a world without targets and hosts.
    pub fn new(rng: Rng, lease_us: u64, patience_us: u64, history: bool) -> World {
        World {
            rng,
            now: 0,
            steps: 0,
            targets: Vec::new(),
            hosts: Vec::new(),
            lease_us,
            patience_us,
            history: history.then(VecDeque::new),
            digest: 0xcbf2_9ce4_8422_2325,
            events: BTreeMap::new(),
            next: 0,
            trouble: 0,
        }
    }

    /// Adds a line to the history.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(history) = &mut self.history {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(format!("{now:>9} {}", line()));
        }
    }

    /// Returns a stamp: greater than all before.
    pub fn stamp(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Has something happen at a time.
    pub fn at(&mut self, at: u64, event: Event) {
        let number = self.stamp();
        self.events.insert((at.max(self.now), number), event);
    }

    /// Has something happen after a time.
    pub fn after(&mut self, us: u64, event: Event) {
        self.at(self.now + us, event);
    }

    /// Goes on to the next event.
    pub fn pop(&mut self) -> Option<Event> {
        let ((at, number), event) = self.events.pop_first()?;
        self.now = at;
        self.steps += 1;
        self.digest = (self.digest ^ at ^ number << 32).wrapping_mul(0x0000_0100_0000_01b3);
        Some(event)
    }

    /// Returns whether packets pass between a host and a target.
    pub fn passes(&self, host: usize, target: usize) -> bool {
        let at = &self.hosts[host];
        self.targets[target].powered && at.cut_until[target] == 0 && !at.unreachable[target]
    }

    /// Returns whether a target is open in a host's process.
    pub fn is_open(&self, host: usize, target: usize) -> bool {
        matches!(self.hosts[host].bdevs[target], Bdev::Open { .. })
    }

    fn tell(&mut self, host: usize, notice: Notice) {
        self.note(|| match &notice {
            Notice::Done { target, request, status, .. } => {
                format!("host {host}: target {target}: request {request} {status:?}")
            }
            other => format!("host {host}: {other:?}"),
        });
        self.hosts[host].inbox.push_back(notice);
    }

    fn host_of(&self, process: u32) -> Option<usize> {
        self.hosts.iter().position(|host| host.alive && host.process == process)
    }

    /// Sends an operation to a target.
    pub fn submit(&mut self, host: usize, target: usize, request: u64, what: What) {
        self.note(|| {
            let text = match &what {
                What::Read { start, count } => format!("read {start}+{count}"),
                What::Write { start, data } => match data.first() {
                    Some(Content::Write(write)) => format!("write {start}+{} of {write}", data.len()),
                    _ => format!("write {start}+{} of metadata", data.len()),
                },
                What::Flush => "flush".to_owned(),
            };
            format!("host {host}: target {target}: request {request}: {text}")
        });
        let op = self.stamp();
        let process = self.hosts[host].process;
        let at = &mut self.targets[target];
        let fails = self.rng.chance(at.errors);
        let status = if fails { Status::Failed } else { Status::Success };
        at.ops.insert(op, Op { process, request, what, status, executed: false, data: Vec::new() });
        let latency = at.latency(&mut self.rng) / 2;
        self.after(latency, Event::Execute { target, op });
    }

    /// An operation arrives at its target.
    pub fn execute(&mut self, target: usize, id: u64) {
        let Some(op) = self.targets[target].ops.get(&id) else { return };
        let Some(host) = self.host_of(op.process) else {
            // Of a dead process; the fence decides what becomes of it, unless it comes first.
            if self.targets[target].powered && self.rng.chance(500) {
                self.targets[target].execute(id, &mut self.rng);
            }
            return;
        };
        if self.hosts[host].bdevs[target] == Bdev::Absent {
            let request = op.request;
            self.targets[target].ops.remove(&id);
            return self
                .tell(host, Notice::Done { target, request, status: Status::Failed, data: Vec::new() });
        }
        if !self.passes(host, target) {
            return;
        }
        if self.targets[target].owner != Some(host) {
            let Some(op) = self.targets[target].ops.remove(&id) else { return };
            let (request, status) = (op.request, Status::Refused);
            return self.tell(host, Notice::Done { target, request, status, data: Vec::new() });
        }
        if self.targets[target].execute(id, &mut self.rng) {
            self.note(|| format!("target {target}: executed op {id}"));
            let latency = self.targets[target].latency(&mut self.rng) / 2;
            self.after(latency, Event::Finish { target, op: id });
        }
    }

    /// The answer to an operation arrives.
    pub fn finish(&mut self, target: usize, id: u64) {
        let Some(op) = self.targets[target].ops.get(&id).filter(|op| op.executed) else { return };
        let Some(host) = self.host_of(op.process) else { return };
        if !self.passes(host, target) {
            return;
        }
        if let Some(op) = self.targets[target].ops.remove(&id) {
            let Op { request, status, data, .. } = op;
            self.tell(host, Notice::Done { target, request, status, data });
        }
    }

    /// Continues what waited for a link or for the power.
    fn resume(&mut self, host: usize, target: usize) {
        self.hosts[host].trouble[target] = 0;
        let process = self.hosts[host].process;
        let waiting: Vec<(u64, bool)> = self.targets[target]
            .ops
            .iter()
            .filter(|(_, op)| op.process == process)
            .map(|(&id, op)| (id, op.executed))
            .collect();
        if let Bdev::Open { losses } = &mut self.hosts[host].bdevs[target]
            && *losses != self.targets[target].losses
        {
            *losses = self.targets[target].losses;
            self.tell(host, Notice::CacheLost { target });
        }
        if self.is_open(host, target) && self.targets[target].owner.is_some_and(|owner| owner != host) {
            self.refuse(host, target);
        }
        for (op, executed) in waiting {
            let latency = self.targets[target].latency(&mut self.rng) / 2;
            let event = if executed { Event::Finish { target, op } } else { Event::Execute { target, op } };
            self.after(latency, event);
        }
    }

    /// A target tells a former owner that it belongs to another host. What the former owner has
    /// there ends.
    fn refuse(&mut self, host: usize, target: usize) {
        self.tell(host, Notice::Refused { target });
        let process = self.hosts[host].process;
        for (_, request) in self.targets[target].fence(process, &mut Rng::new(0)) {
            self.tell(host, Notice::Done { target, request, status: Status::Refused, data: Vec::new() });
        }
        self.hosts[host].bdevs[target] = Bdev::Absent;
    }

    /// A process tries to open a target.
    pub fn attach(&mut self, host: usize, process: u32, target: usize) {
        let at = &self.hosts[host];
        let is_it = at.alive && at.process == process && at.wants;
        if !is_it || at.bdevs[target] != Bdev::Absent || at.unreachable[target] {
            return;
        }
        if at.stopped || !self.passes(host, target) {
            let again = self.rng.range(10_000, 100_000);
            return self.after(again, Event::Attach { host, process, target });
        }
        if self.targets[target].owner.is_some_and(|owner| owner != host) {
            if at.had[target] {
                return self.refuse(host, target);
            }
            if !at.takes {
                let again = self.rng.range(50_000, 200_000);
                return self.after(again, Event::Attach { host, process, target });
            }
        }
        // What others have here ends first.
        let others: Vec<u32> = self.targets[target]
            .ops
            .values()
            .map(|op| op.process)
            .filter(|other| *other != process)
            .collect();
        for other in others {
            let ended = self.targets[target].fence(other, &mut self.rng);
            let Some(loser) = self.host_of(other) else { continue };
            for (_, request) in ended {
                self.tell(loser, Notice::Done { target, request, status: Status::Refused, data: Vec::new() });
            }
        }
        self.targets[target].owner = Some(host);
        for loser in 0..self.hosts.len() {
            if loser != host && self.is_open(loser, target) && self.passes(loser, target) {
                self.refuse(loser, target);
            }
        }
        self.hosts[host].bdevs[target] = Bdev::Open { losses: self.targets[target].losses };
        self.hosts[host].had[target] = true;
        self.hosts[host].trouble[target] = 0;
        self.tell(host, Notice::Opened { target });
    }

    /// Removes a target's bdev from a process, and returns it after a time.
    pub fn vanish(&mut self, host: usize, target: usize, again_us: u64) {
        if !self.is_open(host, target) {
            return;
        }
        self.hosts[host].bdevs[target] = Bdev::Closing;
        self.tell(host, Notice::Gone { target });
        let process = self.hosts[host].process;
        let lease = self.rng.below(self.lease_us);
        self.after(lease, Event::Fence { host, process, target, then: Then::Close { again_us } });
    }

    /// Closes a target once its operations have ended, and opens it again after a time.
    pub fn close(&mut self, host: usize, target: usize) {
        if self.is_open(host, target) {
            self.hosts[host].bdevs[target] = Bdev::Closing;
            self.note(|| format!("host {host}: target {target}: close"));
            let (process, again_us) = (self.hosts[host].process, self.rng.range(10_000, 200_000));
            let lease = self.rng.below(self.lease_us);
            self.after(lease, Event::Fence { host, process, target, then: Then::Close { again_us } });
        }
    }

    /// Ends all operations of a process at a target, after a lease at most.
    pub fn reset(&mut self, host: usize, target: usize) {
        let process = self.hosts[host].process;
        let lease = self.rng.below(self.lease_us);
        self.note(|| format!("host {host}: target {target}: reset"));
        self.after(lease, Event::Fence { host, process, target, then: Then::Reset });
    }

    /// Nothing of a process is executed at a target any more.
    pub fn fence(&mut self, host: usize, process: u32, target: usize, then: Then) {
        let is_alive = self.hosts[host].alive && self.hosts[host].process == process;
        if then != Then::Reset && is_alive && self.hosts[host].bdevs[target] != Bdev::Closing {
            return;
        }
        let passes = self.passes(host, target) || !is_alive;
        let ended = if passes {
            self.targets[target].fence(process, &mut self.rng)
        } else {
            // What has not arrived never will.
            let ids: Vec<(u64, u64)> = self.targets[target]
                .ops
                .iter()
                .filter(|(_, op)| op.process == process)
                .map(|(&id, op)| (id, op.request))
                .collect();
            ids.iter().for_each(|(id, _)| drop(self.targets[target].ops.remove(id)));
            ids
        };
        if !is_alive {
            return;
        }
        let status = if then == Then::Reset { Status::Aborted } else { Status::Failed };
        for (_, request) in ended {
            self.tell(host, Notice::Done { target, request, status, data: Vec::new() });
        }
        match then {
            Then::Close { again_us } => {
                self.hosts[host].bdevs[target] = Bdev::Absent;
                self.after(again_us, Event::Attach { host, process, target });
            }
            Then::Reset => self.tell(host, Notice::ResetDone { target }),
            Then::Nothing => {}
        }
    }

    /// The link of a host to a target, or the target's power, is gone: processes lose their
    /// patience after a time.
    fn trouble(&mut self, host: usize, target: usize) {
        let (process, patience_us) = (self.hosts[host].process, self.patience_us);
        if self.is_open(host, target) && self.hosts[host].trouble[target] == 0 {
            self.trouble += 1;
            let trouble = self.trouble;
            self.hosts[host].trouble[target] = trouble;
            self.after(patience_us, Event::Patience { host, process, target, trouble });
        }
    }

    /// A process loses its patience with a target.
    pub fn lose_patience(&mut self, host: usize, process: u32, target: usize, trouble: u64) {
        let at = &self.hosts[host];
        if at.alive && at.process == process && at.trouble[target] == trouble {
            self.vanish(host, target, 20_000);
        }
    }

    /// Cuts the link of a host to a target.
    pub fn cut(&mut self, host: usize, target: usize, for_us: u64) {
        let until = self.now + for_us + 1;
        let cut = &mut self.hosts[host].cut_until[target];
        let is_new = *cut == 0;
        *cut = until.max(*cut);
        self.at(until, Event::Heal { host, target });
        if is_new {
            self.trouble(host, target);
        }
    }

    /// A link works again, unless it was cut again.
    pub fn heal(&mut self, host: usize, target: usize, at_once: bool) {
        let cut = &mut self.hosts[host].cut_until[target];
        if *cut == 0 || *cut > self.now && !at_once {
            return;
        }
        *cut = 0;
        self.note(|| format!("host {host}: the link to target {target} works again"));
        if self.hosts[host].alive && self.passes(host, target) {
            self.resume(host, target);
        }
    }

    /// A target loses its power. Returns the blocks that have lost a write.
    pub fn power_off(&mut self, target: usize, for_us: u64) -> Vec<u64> {
        let mut lost = Vec::new();
        if self.targets[target].powered {
            lost = self.targets[target].lose_power(&mut self.rng);
            self.note(|| format!("target {target}: no power, lost {lost:?}"));
            for host in 0..self.hosts.len() {
                self.trouble(host, target);
            }
        }
        let losses = self.targets[target].losses;
        self.after(for_us, Event::PowerBack { target, losses });
        lost
    }

    /// A target's power returns.
    pub fn power_on(&mut self, target: usize) {
        if self.targets[target].powered {
            return;
        }
        self.targets[target].powered = true;
        self.note(|| format!("target {target}: power"));
        for host in 0..self.hosts.len() {
            if self.hosts[host].alive && self.passes(host, target) {
                self.resume(host, target);
            }
        }
    }

    /// A host's process dies.
    pub fn crash(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        at.alive = false;
        at.stopped = false;
        at.takes = false;
        at.inbox.clear();
        at.bdevs.fill(Bdev::Absent);
        at.had.fill(false);
        at.trouble.fill(0);
        at.wants = false;
        let process = at.process;
        self.note(|| format!("host {host}: process {process} dies"));
        for target in 0..self.targets.len() {
            let lease = self.rng.below(self.lease_us);
            self.after(lease, Event::Fence { host, process, target, then: Then::Nothing });
        }
    }

    /// A host's process starts.
    pub fn start(&mut self, host: usize, process: u32) {
        let at = &mut self.hosts[host];
        (at.process, at.alive, at.stopped) = (process, true, false);
        self.note(|| format!("host {host}: process {process} starts"));
    }

    /// The process of a host tries to open all targets that are not open: the witness, which is the
    /// last one, first.
    pub fn open_all(&mut self, host: usize) {
        let process = self.hosts[host].process;
        for (turn, target) in (0..self.targets.len()).rev().enumerate() {
            let jitter = self.rng.below(2_000);
            self.after(turn as u64 * 2_000 + jitter, Event::Attach { host, process, target });
        }
    }
}
