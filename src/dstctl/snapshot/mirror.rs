//! A mirror in a snapshot, as `bdev_dst_mirror_get_info` shows it.

use serde::Deserialize;

/// A mirror.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Mirror {
    pub name: String,
    pub state: MirrorState,
    /// What a mirror that is starting waits for, or why it has ended.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether the mirror is being deleted.
    #[serde(default)]
    pub deleting: bool,
    #[serde(default)]
    num_blocks: u64,
    #[serde(default)]
    block_size: u64,
    /// The members, once the metadata are known.
    #[serde(default)]
    pub members: Vec<Member>,
    #[serde(default)]
    pub witness: Option<Witness>,
    /// The devices that calls named, with the bdevs that were found for them.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// The number of I/Os that are being executed.
    #[serde(default)]
    pub outstanding: u64,
    /// The number of I/Os that wait for that.
    #[serde(default)]
    pub waiting: u64,
    #[serde(default)]
    pub counters: MirrorCounters,
    #[serde(default)]
    pub verification: Option<Verification>,
}

/// What a mirror can do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorState {
    Starting,
    /// All members are in sync.
    Online,
    /// A member is missing, or is brought up to date.
    Degraded,
    /// Writes wait for a majority of the members and the witness.
    Stalled,
    /// No member in sync is there.
    Failed,
    /// The mirror could not be had, or another host has taken it over.
    Ended,
    Stopping,
    Stopped,
    /// A state that this version of dstctl does not know.
    #[serde(untagged)]
    Other(String),
}

/// A member of a mirror.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Member {
    /// The name of the member's bdev when it joined.
    pub name: String,
    pub state: MemberState,
    /// The reason why the member is missing, or is not used.
    #[serde(default)]
    pub reason: Option<String>,
    /// The device of the member, as a call named it, if it is known.
    #[serde(default)]
    device: Option<String>,
    /// How long the member has been missing, ms.
    #[serde(default)]
    pub missing_ms: Option<u64>,
    /// What a member that is brought up to date still lacks.
    #[serde(default)]
    blocks_left: u64,
    /// What a missing member has missed, as far as it is known.
    #[serde(default)]
    blocks_missed: u64,
}

/// What a member is doing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    InSync,
    /// The member is brought up to date.
    Resyncing,
    Missing,
    /// The device is there and is not used.
    Unusable,
    /// The operator has removed the member.
    Detached,
    /// A state that this version of dstctl does not know.
    #[serde(untagged)]
    Other(String),
}

/// The witness of a mirror.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Witness {
    pub name: String,
    /// Whether the witness is there and up to date.
    #[serde(default)]
    pub is_current: bool,
    /// Why it is not. Absent if it is, and from applications that do not say.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A device that a call named.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Device {
    /// The name or UUID in the call.
    pub device: String,
    pub state: String,
    /// The reason why the device waits.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The counters of a mirror since it began.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MirrorCounters {
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
}

/// A comparison of the members.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Verification {
    pub blocks_differing: u64,
    /// Blocks that a member could not read.
    pub blocks_unread: u64,
    /// Blocks of both that were written over.
    pub blocks_repaired: u64,
}

impl MirrorState {
    /// Returns the name that the RPC uses.
    pub fn name(&self) -> &str {
        match self {
            MirrorState::Starting => "starting",
            MirrorState::Online => "online",
            MirrorState::Degraded => "degraded",
            MirrorState::Stalled => "stalled",
            MirrorState::Failed => "failed",
            MirrorState::Ended => "ended",
            MirrorState::Stopping => "stopping",
            MirrorState::Stopped => "stopped",
            MirrorState::Other(name) => name,
        }
    }
}

impl MemberState {
    /// Returns the name that the RPC uses.
    pub fn name(&self) -> &str {
        match self {
            MemberState::InSync => "in_sync",
            MemberState::Resyncing => "resyncing",
            MemberState::Missing => "missing",
            MemberState::Unusable => "unusable",
            MemberState::Detached => "detached",
            MemberState::Other(name) => name,
        }
    }
}

impl Mirror {
    /// Returns the size in bytes; 0 before it is known.
    pub fn bytes(&self) -> u64 {
        self.num_blocks.saturating_mul(self.block_size)
    }

    /// Returns the number of members in sync, and of all but those that the operator has removed.
    pub fn in_sync(&self) -> (usize, usize) {
        let count = |is: fn(&MemberState) -> bool| self.members.iter().filter(|m| is(&m.state)).count();
        (count(|state| *state == MemberState::InSync), count(|state| *state != MemberState::Detached))
    }

    /// Returns the bytes that a member has missed, or still lacks.
    pub fn behind(&self, member: &Member) -> u64 {
        member.blocks_left.max(member.blocks_missed).saturating_mul(self.block_size)
    }

    /// Returns why the bdev of a member can't be had now, if it can't.
    pub fn absence(&self, member: &Member) -> Option<&str> {
        // Which device a member is that was never there, only its name says.
        self.absence_of(member.device.as_deref().unwrap_or(&member.name))
    }

    /// Returns why the bdev of this device can't be had now, if it can't.
    pub fn absence_of(&self, device: &str) -> Option<&str> {
        self.absent().find(|absent| absent.device == device)?.reason.as_deref()
    }

    /// Returns the devices whose bdevs can't be had now.
    pub fn absent(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|device| device.state == "waiting")
    }
}
