//! What is exported: bdevs, as clients see them.

use dst_broker::Rules;
use dst_session::access::Host;
use dst_wire::{Device, Op, OpSet};
use spdk::bdev::{BdevInfo, Desc};
use spdk::poller::Poller;

use crate::error::Error;

/// The bdev of an export. The broker has the rest: who may attach, and what goes for all.
pub struct Export {
    /// The name of the bdev, as the operator gave it.
    pub bdev_name: String,
    /// The identity of the export.
    pub uuid: [u8; 16],
    /// The open bdev. Closed when the last connection is gone.
    pub desc: Desc,
    /// The deletion of the export, if that is under way.
    pub deletion: Option<Deletion>,
}

/// Takes the end of a deletion.
type Done = Box<dyn FnOnce(Result<(), Error>)>;

/// A deletion that is under way.
pub struct Deletion {
    /// Told how the deletion ends, or that it may not; `None` once told.
    pub done: Option<Done>,
    /// Tells the broker each time that the drain time-out has passed; `None` once twice was enough.
    pub timer: Option<Poller>,
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

/// Checks that a bdev can be exported.
///
/// # Errors
/// [`Error::Unsuitable`].
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

/// Returns the device that a bdev is, with all that it can do, whoever asks.
pub fn device(info: &BdevInfo, uuid: [u8; 16]) -> Device {
    let ops: OpSet = Op::ALL.into_iter().filter(|&op| supports(info, op)).collect();
    Device {
        uuid,
        num_blocks: info.num_blocks,
        block_size: info.block_size,
        write_unit_size: info.write_unit_size.max(1),
        optimal_io_boundary: info.optimal_io_boundary,
        compare_and_write_max: if ops.contains(Op::CompareAndWrite) { info.acwu.max(1) } else { 0 },
        write_cache: info.write_cache,
        read_only: false,
        ops,
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
