//! An export as the broker sees it.

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
}

/// An export.
#[derive(Debug, Clone)]
pub(crate) struct Export {
    /// The device with all that it can do, whoever asks.
    pub device: Device,
    pub rules: Rules,
    /// Who may do what; nobody else may anything.
    pub hosts: Vec<Host>,
    /// The size that clients are told of, in blocks: when the bdev has grown, only once all that carry
    /// requests know.
    pub told_blocks: u64,
    pub deletion: Option<Deletion>,
}

impl Export {
    /// Returns what a client with this access is told of the device.
    pub fn device_for(&self, access: Access) -> Device {
        let mut device = self.device;
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

/// A deletion that is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deletion {
    /// How often the drain time-out has passed.
    pub late: u64,
    /// The bdev is being reset: what comes after the deletion is not meant by that.
    pub is_resetting: bool,
}
