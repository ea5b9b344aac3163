//! The state of a run.

use std::collections::BTreeSet;
use std::fmt;

use dst_mirror::Op;
use dst_mirror::metadata::{METADATA_BYTES, WITNESS_BYTES};
use world::rng::Rng;

use crate::decisions::Decisions;
use crate::disk::{Content, Disk};
use crate::model::{FIRST_WRITE, Model};
use crate::owner::Owner;
use crate::plan::Plan;
use crate::target::Target;
use crate::world::{Event, Host, World};

/// The interval at which the run looks how things are, in µs.
pub const LOOK_US: u64 = 20_000;

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
    /// Members that were added or removed.
    pub changes: u64,
    /// Verifications that went through all blocks.
    pub verifications: u64,
    /// Blocks that they have found to differ.
    pub differing: u64,
    /// Blocks that had decayed, were repaired, and are equal at the end.
    pub repaired: u64,
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
        self.changes += other.changes;
        self.verifications += other.verifications;
        self.differing += other.differing;
        self.repaired += other.repaired;
    }
}

/// How long an I/O took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// What it did.
    pub op: Op,
    /// When it was submitted, in µs.
    pub at: u64,
    /// The time until it was completed, in µs.
    pub us: u64,
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
    /// How long each I/O took, if the plan has devices.
    pub latencies: Vec<Latency>,
    /// When the last mirror has begun its first and its last copy or comparison, in µs.
    pub copying: Option<(u64, u64)>,
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
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
pub(crate) struct User {
    /// Whether the user has an I/O.
    pub busy: bool,
}

/// A run: the world, what runs in it, and what the checks need to know.
pub struct Run {
    pub(crate) plan: Plan,
    pub(crate) world: World,
    pub(crate) model: Model,
    pub(crate) owners: Vec<Option<Owner>>,
    pub(crate) totals: Totals,
    /// The members that were last known to be in sync.
    pub(crate) in_sync: Vec<bool>,
    /// Whose data count.
    pub(crate) decisions: Decisions,
    /// When the last fault began or ended.
    pub(crate) trouble_us: u64,
    /// When the last flush of a user ended.
    pub(crate) flush_us: u64,
    /// Whether all was well at the last look.
    pub(crate) was_whole: bool,
    /// The only target that has been in trouble since a time, at which all was well.
    pub(crate) alone_since: Option<(usize, u64)>,
    pub(crate) violation: Option<Violation>,
    pub(crate) created: bool,
    /// Writes of processes that are gone: what they have changed by the time that the mirror is
    /// assembled again, they have.
    pub(crate) adrift: Vec<(u64, std::ops::Range<u64>)>,
    pub(crate) users: Vec<User>,
    pub(crate) ios_left: u64,
    pub(crate) next_number: u64,
    pub(crate) next_process: u32,
    /// Whether the operator has ever decided whose data count.
    pub(crate) is_forced: bool,
    pub(crate) stage: Stage,
    pub(crate) read_back: Vec<u64>,
    pub(crate) idle_since: u64,
    /// Whether a host has begun to take the mirror over in order, and none has died of a fault since: so one
    /// has it, or gets it.
    pub(crate) has_takers: bool,
    /// Whether each target is known to be a member or the witness, or not. Nothing is known while that is
    /// changed.
    pub(crate) expected: Vec<Option<bool>>,
    /// Blocks that a medium has changed.
    pub(crate) decayed: BTreeSet<u64>,
    /// Those that were repaired since.
    pub(crate) repaired: BTreeSet<u64>,
    /// How long each I/O took, if the plan has devices.
    pub(crate) latencies: Vec<Latency>,
    /// The dice of the load, which nothing else throws.
    pub(crate) load_rng: Rng,
}

impl Run {
    /// Returns the beginning of a plan's run.
    pub(crate) fn new(plan: Plan, history: bool) -> Run {
        let mut world = World::new(Rng::new(plan.seed), plan.lease_us, plan.patience_us, history);
        let size = u64::from(plan.block_size);
        for target in 0..plan.targets() {
            let is_witness = target == plan.members;
            let bytes = if is_witness { WITNESS_BYTES } else { METADATA_BYTES };
            let data = if is_witness { 0 } else { plan.blocks };
            let initial = if plan.dirty { target as u64 + 1 } else { 0 };
            let cache = plan.caches.get(target).copied().unwrap_or(true);
            let disk = Disk::new(plan.block_size, data + bytes / size, cache, Content::Write(initial));
            let mut new = Target::new(disk, data, plan.latency_us[target]);
            if let Some(service) = plan.devices.get(target) {
                new.set_device(*service);
            }
            world.targets.push(new);
        }
        for host in 0..plan.hosts {
            let unreachable = (0..plan.targets()).map(|target| plan.local && target == 0 && host != 0);
            world.hosts.push(Host::new(plan.targets(), unreachable.collect()));
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            world.at(*at, Event::Strike { index });
        }
        for host in 0..plan.hosts {
            world.at(0, Event::Start { host });
        }
        world.at(LOOK_US, Event::Look);
        for user in 0..plan.depth {
            world.at(1_000, Event::Think { user });
        }
        if plan.load.is_some() {
            world.at(1_000, Event::Arrive);
        }
        Run {
            model: Model::new(u64::from(plan.dirty)),
            owners: (0..plan.hosts).map(|_| None).collect(),
            totals: Totals::default(),
            in_sync: vec![false; plan.members],
            decisions: Decisions::new(&plan),
            trouble_us: 0,
            flush_us: 0,
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
            has_takers: false,
            expected: vec![Some(true); plan.targets()],
            decayed: BTreeSet::new(),
            repaired: BTreeSet::new(),
            latencies: Vec::new(),
            load_rng: Rng::new(plan.seed ^ 0x6c6f_6164),
            world,
            plan,
        }
    }

    /// Records a violation, unless there was one.
    pub(crate) fn violate(&mut self, rule: &str, text: String) {
        self.world.note(|| format!("VIOLATION {rule}: {text}"));
        self.violation.get_or_insert(Violation { rule: rule.to_owned(), text });
    }
}
