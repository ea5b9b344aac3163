//! What there is to know about a bdev that is used.

use std::ops::BitOr;

/// A set of I/O types.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IoTypes(u8);

impl IoTypes {
    /// Nothing.
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
    /// Compare-and-write in one, by the bdev itself.
    pub const COMPARE_AND_WRITE: IoTypes = IoTypes(1 << 6);

    /// All of them.
    pub const ALL: IoTypes = IoTypes(0x7f);

    /// Returns whether all of `other` are in this set.
    pub const fn contains(self, other: IoTypes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns this set with `other` in it, or without.
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

/// What SPDK knows about a bdev.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BdevInfo {
    /// Its name, not an alias.
    pub name: String,
    /// Raw bytes, in SPDK's order; all zero: none.
    pub uuid: [u8; 16],
    /// Bytes.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Blocks that a write must be a multiple of.
    pub write_unit_size: u32,
    /// Blocks; I/O that crosses a multiple of it costs more. 0: none.
    pub optimal_io_boundary: u32,
    /// Power of two to which buffers should be aligned; SPDK copies where they are not.
    pub required_alignment_log2: u8,
    /// Blocks that compare-and-write takes at most.
    pub acwu: u32,
    /// It has a volatile write cache: flush means something.
    pub write_cache: bool,
    /// Bytes of metadata with each block.
    pub md_size: u32,
    /// What it can do.
    pub supports: IoTypes,
}

/// What happens to an open bdev.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BdevEvent {
    /// It is being removed and waits for everybody to close it.
    Remove,
    /// Its number of blocks changed.
    Resize,
}
