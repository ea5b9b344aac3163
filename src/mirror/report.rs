//! What a mirror shows of itself.

use crate::extents::Extent;
use crate::generation::Generation;
use crate::handles::Device;
use crate::ids::{MemberId, MirrorId};

/// A mirror as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The mirror, once its metadata are known.
    pub mirror: Option<MirrorId>,
    /// What the mirror can do.
    pub state: State,
    /// The size in blocks, once it is known.
    pub blocks: u64,
    /// The size of a block in bytes, once it is known.
    pub block_size: u32,
    /// The current generation, once it is known.
    pub generation: Option<Generation>,
    /// The number of the newest record.
    pub number: u64,
    /// The members, in the order of the configuration.
    pub members: Vec<MemberReport>,
    /// The witness, if there is one.
    pub witness: Option<WitnessReport>,
    /// The number of hot regions.
    pub hot_regions: usize,
    /// The size of a region in blocks.
    pub region_blocks: u64,
    /// What the mirror has counted since it began.
    pub counts: Counts,
    /// The verification that is under way, or else the last one since the mirror began.
    pub verification: Option<Verification>,
}

/// A comparison of all blocks of the members in sync. Members are compared with the one of the lowest
/// place that can read the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Whether the verification goes on.
    pub state: VerificationState,
    /// Whether what differs is written over.
    pub repairs: bool,
    /// The number of blocks that were gone through.
    pub compared: u64,
    /// The number of blocks that a member held otherwise. A block counts once for each such member.
    pub differing: u64,
    /// The number of those, and of unreadable ones, that were written over.
    pub repaired: u64,
    /// The number of blocks of ranges that a member could not read. They count for each such member.
    pub unread: u64,
    /// The first ranges that a member held otherwise, at most [`Verification::FIRST_MAX`].
    pub first: Vec<Difference>,
}

impl Verification {
    /// The maximum number of ranges in [`Verification::first`]: enough to see a pattern in.
    pub const FIRST_MAX: usize = 8;
}

/// Whether a verification goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerificationState {
    /// The verification is under way.
    Running {
        /// What it waits for, if it does.
        waits_for: Option<&'static str>,
    },
    /// All blocks were gone through.
    Done {
        /// When, in µs of the driver's clock.
        at: u64,
    },
    /// The verification was stopped, by the operator or by the end of the mirror.
    Stopped {
        /// When, in µs of the driver's clock.
        at: u64,
    },
}

/// Blocks that a member held otherwise than the member that it was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The member.
    pub member: MemberId,
    /// The blocks.
    pub range: Extent,
}

/// What a mirror can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The mirror is created, or waits for devices to be assembled.
    Starting {
        /// What the mirror waits for.
        why: String,
    },
    /// All members are in sync.
    Online,
    /// Members are missing or resynced.
    Degraded,
    /// Writes wait, since no majority can be told which members missed them.
    Stalled,
    /// No member in sync is there. I/O fails.
    Failed,
    /// The mirror could not be created or assembled, or another host owns one of its devices.
    Ended {
        /// The reason.
        why: String,
    },
    /// The mirror was told to stop.
    Stopping,
    /// The mirror has stopped.
    Stopped,
}

impl State {
    /// Returns the word by which RPCs and metrics name the state.
    pub fn name(&self) -> &'static str {
        match self {
            State::Starting { .. } => "starting",
            State::Online => "online",
            State::Degraded => "degraded",
            State::Stalled => "stalled",
            State::Failed => "failed",
            State::Ended { .. } => "ended",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }
}

/// What a member is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The member has all completed writes.
    InSync,
    /// The member is being brought up to date.
    Resyncing {
        /// The number of blocks that are left.
        left: u64,
    },
    /// The member is not there.
    Missing {
        /// Why, as far as it is known.
        why: String,
        /// The time since when, in µs of the driver's clock.
        since: u64,
        /// The number of blocks that the member missed, as far as it is known.
        missed: u64,
    },
    /// The device is there and is not used.
    Unusable {
        /// The reason, and what to do.
        why: String,
    },
    /// The operator removed the member.
    Detached,
}

impl Condition {
    /// Returns the word by which RPCs and metrics name what the member is doing.
    pub fn name(&self) -> &'static str {
        match self {
            Condition::InSync => "in_sync",
            Condition::Resyncing { .. } => "resyncing",
            Condition::Missing { .. } => "missing",
            Condition::Unusable { .. } => "unusable",
            Condition::Detached => "detached",
        }
    }

    /// Returns the number of blocks that the member lacks, as far as it is known.
    pub fn behind(&self) -> u64 {
        match self {
            Condition::Resyncing { left } => *left,
            Condition::Missing { missed, .. } => *missed,
            Condition::InSync | Condition::Unusable { .. } | Condition::Detached => 0,
        }
    }
}

/// A member as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReport {
    /// The member.
    pub id: MemberId,
    /// The name that was recorded.
    pub name: String,
    /// The member's device, if it is known.
    pub device: Option<Device>,
    /// What the member is doing.
    pub condition: Condition,
    /// The number of requests that the device has.
    pub in_flight: usize,
}

/// Whether the witness has a vote now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessCondition {
    /// The witness is there and up to date.
    Current,
    /// The witness has no vote.
    Away {
        /// Why, as far as it is known.
        why: String,
    },
}

/// The witness as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessReport {
    /// The witness.
    pub id: MemberId,
    /// The name that was recorded.
    pub name: String,
    /// Whether it has a vote.
    pub condition: WitnessCondition,
}

impl WitnessReport {
    /// Returns true if the witness is there and up to date.
    pub fn is_current(&self) -> bool {
        self.condition == WitnessCondition::Current
    }
}

/// What a mirror counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of users that have ended.
    pub reads: u64,
    /// Writes of users that have ended.
    pub writes: u64,
    /// Flushes of users that have ended.
    pub flushes: u64,
    /// Records that were written to at least one device.
    pub records: u64,
    /// Blocks that were copied to members.
    pub copied_blocks: u64,
    /// Reads that one member failed and another one answered.
    pub read_errors: u64,
    /// Blocks that were written back after a read error.
    pub repaired_blocks: u64,
    /// Members in sync that fell out.
    pub departures: u64,
    /// Lost caches of members.
    pub lost_caches: u64,
}
