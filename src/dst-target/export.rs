//! What is exported, and to whom.

use dst_session::access::{Access, Host};
use dst_wire::{Device, Op, OpSet};
use spdk::bdev::{BdevInfo, Desc};

use crate::deletion::Deletion;
use crate::error::Error;

/// Most hosts at one export.
pub const HOSTS_MAX: usize = 4096;

/// What an operator says of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
pub struct Export {
    /// Its bdev's name.
    pub bdev_name: String,
    /// Its identity.
    pub uuid: [u8; 16],
    /// What goes for all who attach.
    pub rules: Rules,
    /// Who may do what; nobody else may anything.
    pub hosts: Vec<Host>,
    /// The open bdev. Closed when the last connection is gone.
    pub desc: Desc,
    /// What the bdev is like.
    pub info: BdevInfo,
    /// The size that clients are told of, in blocks: when the bdev has grown, only once all that carry requests know.
    pub told_blocks: u64,
    /// Its deletion, if that is under way.
    pub deleting: Option<Deletion>,
}

/// An export as `dst_get_exports` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its name.
    pub name: String,
    /// Its bdev's name.
    pub bdev_name: String,
    /// Its identity: the UUID that the operator gave it, or else the one that its bdev had.
    pub uuid: [u8; 16],
    /// What goes for all who attach.
    pub rules: Rules,
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Who may do what.
    pub hosts: Vec<Host>,
    /// Sessions open.
    pub sessions: usize,
    /// Whether it is being deleted, and waits for its backend.
    pub deleting: bool,
}

/// Whether a bdev can be exported.
pub fn check_suitable(info: &BdevInfo, max_transfer: u32) -> Result<(), Error> {
    let unsuitable = |why| Err(Error::Unsuitable { name: info.name.clone(), why });
    if info.md_size > 0 {
        return unsuitable("it has metadata in or beside its blocks");
    }
    if !info.block_size.is_power_of_two() || !(512..=65_536).contains(&info.block_size) {
        return unsuitable("its block size is not a power of two from 512 to 65536");
    }
    if u64::from(info.block_size) * u64::from(info.write_unit_size.max(1)) > max_transfer.into() {
        return unsuitable("it is written in units longer than max_transfer (dst_set_options)");
    }
    if !info.supports.contains(spdk::bdev::IoTypes::READ) {
        return unsuitable("it can't be read");
    }
    Ok(())
}

impl Export {
    /// What a client with this access is told of the device.
    pub fn device(&self, access: Access) -> Device {
        let info = &self.info;
        let read_only = self.rules.read_only || access == Access::ReadOnly;
        let mut ops: OpSet = Op::ALL.into_iter().filter(|&op| supports(info, op)).collect();
        if read_only {
            // A reset ends the I/O of everybody who uses the bdev: not for those who may only read.
            ops = Op::ALL.into_iter().filter(|op| op.modifies()).fold(ops, OpSet::without).without(Op::Reset);
        }
        Device {
            uuid: self.uuid,
            num_blocks: info.num_blocks,
            block_size: info.block_size,
            write_unit_size: info.write_unit_size.max(1),
            optimal_io_boundary: info.optimal_io_boundary,
            compare_and_write_max: if ops.contains(Op::CompareAndWrite) { info.acwu.max(1) } else { 0 },
            write_cache: info.write_cache,
            read_only,
            ops,
        }
    }
}

fn supports(info: &BdevInfo, op: Op) -> bool {
    use spdk::bdev::IoTypes;
    let wanted = match op {
        Op::Read => IoTypes::READ,
        Op::Write => IoTypes::WRITE,
        Op::Flush => IoTypes::FLUSH,
        Op::Unmap => IoTypes::UNMAP,
        Op::WriteZeroes => IoTypes::WRITE_ZEROES,
        // SPDK's bdev layer does it under a lock on the range, whatever the backend is.
        Op::CompareAndWrite => IoTypes::READ | IoTypes::WRITE,
        Op::Reset => IoTypes::RESET,
    };
    info.supports.contains(wanted)
}
