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
use crate::target::{Status, Target};

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
    /// A process hears of the newest ownership of a target.
    Heard { host: usize, process: u32, target: usize, number: u64 },
    /// A process's claim to the ownership after this one arrives at a target.
    Claim { host: usize, process: u32, target: usize, after: u64 },
    /// A process sends its next keep-alive to a target.
    KeepAlive { host: usize, process: u32, target: usize },
    /// A keep-alive arrives at a target.
    Confirm { host: usize, process: u32, target: usize, sent: u64 },
    /// A mirror has its turn to copy.
    Turn { host: usize, process: u32 },
    /// A process that takes over looks what it has to do.
    Take { host: usize, process: u32 },
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
    /// An I/O of the load comes.
    Arrive,
    /// A fault of the plan occurs.
    Strike { index: usize },
    /// A host's process dies, and does not reach a member afterwards.
    Swap { host: usize, member: usize, for_us: u64 },
    /// A host's process dies, and does not reach some targets afterwards.
    CutAndCrash { host: usize, members: u64, for_us: u64 },
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
    /// The target answers again.
    Reachable { target: usize },
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

/// What a process knows of the ownership of a target. Times are in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// The number of the newest ownership, and when the process heard of it.
    pub newest: Option<(u64, u64)>,
    /// The ownership that the process's claim follows, until the claim is answered.
    pub claim: Option<u64>,
    /// A time at which the process still owned the target.
    pub confirmed_us: u64,
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
    /// Whether the process takes them in the order of `dst_mirror::takeover`, and not as it reaches them.
    pub is_orderly: bool,
    /// What the process knows of the ownership of each target.
    pub known: Vec<Known>,
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
            is_orderly: false,
            known: vec![Known::default(); targets],
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
    pub(crate) trouble: u64,
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

    /// Tells a host's process something.
    pub(crate) fn tell(&mut self, host: usize, notice: Notice) {
        self.note(|| match &notice {
            Notice::Done { target, request, status, .. } => {
                format!("host {host}: target {target}: request {request} {status:?}")
            }
            other => format!("host {host}: {other:?}"),
        });
        self.hosts[host].inbox.push_back(notice);
    }

    /// Returns the host whose process has this number and is alive.
    pub(crate) fn host_of(&self, process: u32) -> Option<usize> {
        self.hosts.iter().position(|host| host.alive && host.process == process)
    }
}
