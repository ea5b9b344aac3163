//! An export as the broker sees it.

use std::collections::VecDeque;

use dst_session::access::{Access, Host};
use dst_wire::{Device, Op, OpSet};

/// Most hosts at one export.
pub const HOSTS_MAX: usize = 4096;

/// What an operator says of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Nobody may write.
    pub read_only: bool,
    /// Nobody may attach without digests of data.
    pub require_digest: bool,
    /// Nobody may attach without a cipher, so nobody without a key.
    pub require_cipher: bool,
    /// The bdev's volatile cache is not this process's memory: what completed survives the process, though
    /// not the machine.
    pub cache_outlives_target: bool,
    /// How far a client's reset reaches.
    pub reset: ResetReach,
}

/// How far a client's reset reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResetReach {
    /// It ends the I/O of the client's own session. The bdev is not reset.
    #[default]
    Host,
    /// The bdev is reset.
    Backend,
}

/// Former instances of one export that are remembered. A client that names an older one is told that
/// nothing is known of it, and waits for its leases.
const FORMER_MAX: usize = 16;

/// An export.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    pub backing: Backing,
    pub rules: Rules,
    /// Who may do what; nobody else may anything.
    pub hosts: Vec<Host>,
    /// The instances under which the export was online before, the newest first.
    pub former: VecDeque<[u8; 16]>,
    pub drain: Option<Drain>,
}

/// Whether the bdev of an export is there.
#[derive(Debug, Clone)]
pub(crate) enum Backing {
    /// The bdev is not there yet, or not any more. Nobody is admitted.
    Offline,
    /// The bdev is there.
    Online(Online),
}

/// An export whose bdev is there.
#[derive(Debug, Clone)]
pub(crate) struct Online {
    /// The device with all that it can do, whoever asks.
    pub device: Device,
    /// The size that clients are told of, in blocks: when the bdev has grown, only once all that carry
    /// requests know.
    pub told_blocks: u64,
    /// What clients take for a start of the target: another one each time that the bdev comes.
    pub instance: [u8; 16],
}

impl Export {
    /// Returns an export whose bdev is not there yet.
    pub fn new(rules: Rules) -> Export {
        let (hosts, former) = (Vec::new(), VecDeque::new());
        Export { backing: Backing::Offline, rules, hosts, former, drain: None }
    }

    /// Returns what is known while the bdev is there.
    pub fn online(&self) -> Option<&Online> {
        match &self.backing {
            Backing::Online(online) => Some(online),
            Backing::Offline => None,
        }
    }

    /// Like [`Export::online`], to be changed.
    pub fn online_mut(&mut self) -> Option<&mut Online> {
        match &mut self.backing {
            Backing::Online(online) => Some(online),
            Backing::Offline => None,
        }
    }

    /// The bdev is gone.
    pub fn go_offline(&mut self) {
        if let Backing::Online(online) = std::mem::replace(&mut self.backing, Backing::Offline) {
            self.former.truncate(FORMER_MAX - 1);
            self.former.push_front(online.instance);
        }
    }

    /// Returns true if the export is being deleted.
    pub fn is_deleting(&self) -> bool {
        matches!(self.drain, Some(Drain { ends: Ends::Export, .. }))
    }

    /// Returns true if the export was online under this instance before, and is so no more.
    pub fn was(&self, instance: &[u8; 16]) -> bool {
        self.former.contains(instance)
    }

    /// Returns what a client with this access is told of a device.
    pub fn device_for(&self, mut device: Device, access: Access) -> Device {
        device.read_only = self.rules.read_only || access == Access::ReadOnly;
        if device.read_only {
            // A reset ends the I/O of everybody who uses the bdev: not for those who may only read.
            let modifying = Op::ALL.into_iter().filter(|op| op.modifies());
            device.ops = modifying.fold(device.ops, OpSet::without).without(Op::Reset);
        }
        if !device.ops.contains(Op::CompareAndWrite) {
            device.compare_and_write_max = 0;
        }
        device
    }
}

/// What is being ended of an export: its connections are closed, and the backend may have something of
/// them.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pub ends: Ends,
    /// How often the drain time-out has passed.
    pub late: u64,
    /// The bdev is being reset: what comes after the drain is not meant by that.
    pub is_resetting: bool,
}

/// What ends when the backend has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ends {
    /// The use of the bdev, which was removed. The export stays.
    Backing,
    /// The export.
    Export,
}
