//! The properties and events of a bdev in use.

use std::ops::BitOr;

/// A set of I/O types.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IoTypes(u8);

impl IoTypes {
    /// The empty set.
    pub const NONE: IoTypes = IoTypes(0);
    /// Read.
    pub const READ: IoTypes = IoTypes(1);
    /// Write.
    pub const WRITE: IoTypes = IoTypes(1 << 1);
    /// Flush a volatile cache.
    pub const FLUSH: IoTypes = IoTypes(1 << 2);
    /// Discard.
    pub const UNMAP: IoTypes = IoTypes(1 << 3);
    /// Write zeroes, by the bdev itself or through SPDK's emulation.
    pub const WRITE_ZEROES: IoTypes = IoTypes(1 << 4);
    /// Abort all I/O of the bdev.
    pub const RESET: IoTypes = IoTypes(1 << 5);
    /// Compare-and-write as one atomic step, by the bdev itself.
    pub const COMPARE_AND_WRITE: IoTypes = IoTypes(1 << 6);

    /// All I/O types.
    pub const ALL: IoTypes = IoTypes(0x7f);

    /// Returns whether all of `other` are in this set.
    pub const fn contains(self, other: IoTypes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns this set with `other` added if `present`, otherwise with `other` removed.
    pub const fn with(self, other: IoTypes, present: bool) -> IoTypes {
        if present { IoTypes(self.0 | other.0) } else { IoTypes(self.0 & !other.0) }
    }
}

impl BitOr for IoTypes {
    type Output = IoTypes;

    fn bitor(self, other: IoTypes) -> IoTypes {
        IoTypes(self.0 | other.0)
    }
}

/// The properties of a bdev.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BdevInfo {
    /// The name of the bdev, not an alias.
    pub name: String,
    /// The UUID's bytes in SPDK's order; all zero: none.
    pub uuid: [u8; 16],
    /// The block size in bytes.
    pub block_size: u32,
    /// The number of blocks.
    pub num_blocks: u64,
    /// A write must cover a multiple of this many blocks.
    pub write_unit_size: u32,
    /// I/O that crosses a multiple of this many blocks is slower; 0: no such boundary.
    pub optimal_io_boundary: u32,
    /// The power of two to which buffers should be aligned; SPDK copies unaligned ones.
    pub required_alignment_log2: u8,
    /// The maximum number of blocks of a compare-and-write.
    pub acwu: u32,
    /// Whether the bdev has a volatile write cache, so that a flush matters.
    pub write_cache: bool,
    /// The size of the metadata of each block in bytes.
    pub md_size: u32,
    /// The I/O types that the bdev supports.
    pub supports: IoTypes,
}

/// What flushed data of a bdev survives, as far as the bdev's kind says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survives {
    /// The end of the process, but perhaps not a restart of the machine: a file may be in memory.
    ProcessEnd,
    /// A restart of the machine.
    MachineRestart,
}

/// An event of an open bdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BdevEvent {
    /// The bdev is being removed, and waits for all its users to close it.
    Remove,
    /// The number of blocks has changed.
    Resize,
}
