//! An export as the broker sees it.

use dst_session::access::{Access, Host};
use dst_wire::{Device, Op, OpSet};

use crate::ownership::OwnershipState;
use crate::stats::Stats;

/// The maximum number of hosts at one export.
pub const HOSTS_MAX: usize = 4096;

/// The rules of an export, which an operator gives when creating it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Whether all clients may only read.
    pub read_only: bool,
    /// Whether clients must use data digests.
    pub require_digest: bool,
    /// Whether clients must use a cipher, and so have a key.
    pub require_cipher: bool,
    /// Whether the bdev's volatile cache is outside this process's memory, so that completed writes
    /// survive the process, though not the machine.
    pub cache_outlives_target: bool,
    /// How far a client's reset reaches.
    pub reset: ResetReach,
}

/// How far a client's reset reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResetReach {
    /// The reset ends the I/O of the client's own session. The bdev is not reset.
    #[default]
    Host,
    /// The bdev is reset.
    Backend,
}

/// An export.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    pub backing: Backing,
    pub rules: Rules,
    /// The entries of the access list. Other hosts have no access.
    pub hosts: Vec<Host>,
    pub drain: Option<Drain>,
    pub ownership: OwnershipState,
    /// The counts of the export's sessions that have ended.
    pub past: Stats,
}

/// Whether the bdev of an export is present.
#[derive(Debug, Clone)]
pub(crate) enum Backing {
    /// The bdev is not present yet or has been removed. No client is admitted.
    Offline,
    /// The bdev is present.
    Online(Online),
}

/// The state of an export whose bdev is present.
#[derive(Debug, Clone)]
pub(crate) struct Online {
    /// The device with all its operations, regardless of hosts' rights.
    pub device: Device,
    /// The size that clients are told, in blocks. A new size is told only once all connections that
    /// carry requests know it.
    pub told_blocks: u64,
    /// The instance that clients are told. It changes each time that an export of this name takes
    /// its bdev, which clients take for a restart of the target.
    pub instance: [u8; 16],
    /// The instances of which nothing is executed any more and everything completed is durable,
    /// because their targets have stopped in order.
    pub predecessors: Vec<[u8; 16]>,
}

impl Export {
    /// Returns an export whose bdev is not present yet.
    pub fn new(rules: Rules) -> Export {
        let ownership = OwnershipState::NotKept;
        Export {
            backing: Backing::Offline,
            rules,
            hosts: Vec::new(),
            drain: None,
            ownership,
            past: Stats::default(),
        }
    }

    /// Returns the state of the bdev, or `None` if it is not present.
    pub fn online(&self) -> Option<&Online> {
        match &self.backing {
            Backing::Online(online) => Some(online),
            Backing::Offline => None,
        }
    }

    /// Like [`Export::online`], mutable.
    pub fn online_mut(&mut self) -> Option<&mut Online> {
        match &mut self.backing {
            Backing::Online(online) => Some(online),
            Backing::Offline => None,
        }
    }

    /// Notes that the bdev is gone.
    pub fn go_offline(&mut self) {
        self.backing = Backing::Offline;
    }

    /// Returns true if the export is being deleted.
    pub fn is_deleting(&self) -> bool {
        matches!(self.drain, Some(Drain { ends: Ends::Export, .. }))
    }

    /// Returns the device as a client with this access is told of it.
    pub fn device_for(&self, mut device: Device, access: Access) -> Device {
        device.read_only = self.rules.read_only || access == Access::ReadOnly;
        if device.read_only {
            // A reset may end the I/O of everybody who uses the bdev, so clients that may only read
            // cannot ask for one.
            let modifying = Op::ALL.into_iter().filter(|op| op.modifies());
            device.ops = modifying.fold(device.ops, OpSet::without).without(Op::Reset);
        }
        if !device.ops.contains(Op::CompareAndWrite) {
            device.compare_and_write_max = 0;
        }
        device
    }
}

/// The drain of an export: its connections are closed, and the backend may still hold requests of
/// them.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub ends: Ends,
    /// How often the drain time-out has passed.
    pub late: u64,
    /// Whether the bdev is being reset. The drain does not end before the reset does, since the
    /// reset is not meant for what comes after the drain.
    pub is_resetting: bool,
}

/// What ends once the backend has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ends {
    /// The export's use of its bdev, which was removed. The export stays.
    Backing,
    /// The export.
    Export,
}
