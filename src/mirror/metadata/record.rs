//! What the metadata of a mirror's devices say in common.

use crate::configuration::Configuration;
use crate::ids::MirrorId;
use crate::regions::RegionSize;

/// What a superblock says, but for whose it is and where that device's trees are. The same for all
/// devices of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The mirror.
    pub mirror: MirrorId,
    /// The size of a block of the mirror in bytes: a power of two within [`dst_wire::BLOCK_SIZES`].
    pub block_size: u32,
    /// The size of the mirror in blocks, at least 1.
    pub blocks: u64,
    /// Who belongs to the mirror. Its number is that of the record.
    pub configuration: Configuration,
    /// The size of a region of the intent log.
    pub region_size: RegionSize,
    /// The hot regions in ascending order, at most [`crate::regions::HOT_MAX`].
    pub hot: Vec<u16>,
}
