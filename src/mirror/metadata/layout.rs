//! Where the metadata are on a device.

use dst_wire::BLOCK_SIZES;
use thiserror::Error;

use crate::configuration::MEMBERS_MAX;
use crate::extents::Extent;

/// The size of a superblock: what a disk of today writes in one piece.
pub const SUPERBLOCK_BYTES: usize = 4096;

/// The room for a superblock: the largest block there is, so that each has blocks of its own.
pub(super) const SUPERBLOCK_ROOM: u64 = *BLOCK_SIZES.end() as u64;

/// The room for one tree.
pub(super) const TREE_ROOM: u64 = 512 << 10;

/// The bytes that the metadata of a witness take at its end: two superblocks.
pub const WITNESS_BYTES: u64 = 2 * SUPERBLOCK_ROOM;

/// The bytes that the metadata of a member take at its end: two trees a member, and two superblocks
/// behind them.
pub const METADATA_BYTES: u64 = 2 * MEMBERS_MAX as u64 * TREE_ROOM + WITNESS_BYTES;

/// Why a device has no room for metadata, or cannot have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// The device is too small.
    #[error("it has {bytes} bytes, and needs more than {needed}")]
    TooSmall {
        /// The size of the device, in bytes.
        bytes: u128,
        /// The bytes that the metadata take.
        needed: u64,
    },
    /// The device is larger than any may be.
    #[error("it has {0} bytes, 2^63 - 1 are allowed")]
    TooLarge(u128),
    /// The device's block size is none of a mirror.
    #[error("its blocks have {0} bytes, not a power of two from {start} to {end}", start = BLOCK_SIZES.start(), end = BLOCK_SIZES.end())]
    BlockSize(u32),
}

/// One of two places, of which one is in use while the other one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    First,
    Second,
}

impl Slot {
    pub(super) fn other(self) -> Slot {
        match self {
            Slot::First => Slot::Second,
            Slot::Second => Slot::First,
        }
    }

    pub(super) fn index(self) -> u64 {
        match self {
            Slot::First => 0,
            Slot::Second => 1,
        }
    }
}

/// Where the metadata are on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    device_blocks: u64,
    block_size: u32,
    is_witness: bool,
}

impl Layout {
    /// Returns the layout of a member of `device_blocks` blocks of `block_size` bytes.
    ///
    /// # Errors
    /// If the device has no room for data beside the metadata, or its block size is none of a mirror.
    pub fn member(device_blocks: u64, block_size: u32) -> Result<Layout, LayoutError> {
        Layout::new(device_blocks, block_size, false)
    }

    /// Returns the layout of a witness.
    ///
    /// # Errors
    /// As for [`Layout::member`].
    pub fn witness(device_blocks: u64, block_size: u32) -> Result<Layout, LayoutError> {
        Layout::new(device_blocks, block_size, true)
    }

    fn new(device_blocks: u64, block_size: u32, is_witness: bool) -> Result<Layout, LayoutError> {
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
            return Err(LayoutError::BlockSize(block_size));
        }
        let bytes = u128::from(device_blocks) * u128::from(block_size);
        if bytes > i64::MAX as u128 {
            return Err(LayoutError::TooLarge(bytes));
        }
        let layout = Layout { device_blocks, block_size, is_witness };
        let needed = layout.metadata_bytes();
        // A member has room for one block of data, and the end is rounded down.
        let has_room = layout.end() >= needed && (is_witness || layout.end() > needed);
        if has_room { Ok(layout) } else { Err(LayoutError::TooSmall { bytes, needed }) }
    }

    /// Returns the layout of a device of another size, and otherwise the same.
    pub(super) fn with_size(&self, device_blocks: u64) -> Result<Layout, LayoutError> {
        Layout::new(device_blocks, self.block_size, self.is_witness)
    }

    /// Returns the size of the device in blocks.
    pub fn device_blocks(&self) -> u64 {
        self.device_blocks
    }

    /// Returns the size of the device's blocks in bytes.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Returns whether the device is a witness.
    pub fn is_witness(&self) -> bool {
        self.is_witness
    }

    /// Returns the number of blocks before the metadata: a member's room for data.
    pub fn data_blocks(&self) -> u64 {
        (self.end() - self.metadata_bytes()) / u64::from(self.block_size)
    }

    fn metadata_bytes(&self) -> u64 {
        if self.is_witness { WITNESS_BYTES } else { METADATA_BYTES }
    }

    /// Returns the byte behind the metadata: the end of the device, rounded down so that no superblock
    /// crosses a boundary of the media.
    pub(super) fn end(&self) -> u64 {
        let bytes = self.device_blocks * u64::from(self.block_size);
        bytes - bytes % SUPERBLOCK_ROOM
    }

    /// Returns the blocks of both superblocks.
    pub fn superblocks(&self) -> Extent {
        self.blocks(self.end() - WITNESS_BYTES, WITNESS_BYTES)
    }

    /// Returns the blocks of a superblock.
    pub(super) fn superblock(&self, slot: Slot) -> Extent {
        self.blocks(self.end() - WITNESS_BYTES + slot.index() * SUPERBLOCK_ROOM, SUPERBLOCK_BYTES as u64)
    }

    /// Returns where a superblock begins in the bytes of [`Layout::superblocks`].
    pub(super) fn within_superblocks(slot: Slot) -> usize {
        (slot.index() * SUPERBLOCK_ROOM) as usize
    }

    /// Returns the blocks of the first `bytes` bytes of a member's tree.
    pub(super) fn tree(&self, member: usize, slot: Slot, bytes: usize) -> Extent {
        let place = 2 * member as u64 + slot.index();
        self.blocks(self.end() - METADATA_BYTES + place * TREE_ROOM, bytes as u64)
    }

    /// Returns the blocks of a range of bytes that begins with a block.
    fn blocks(&self, start: u64, bytes: u64) -> Extent {
        let block_size = u64::from(self.block_size);
        Extent::new(start / block_size, bytes.div_ceil(block_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_needs_room() {
        let blocks = METADATA_BYTES / 4096;
        assert_eq!((METADATA_BYTES, WITNESS_BYTES), ((8 << 20) + (128 << 10), 128 << 10));
        let needed = METADATA_BYTES;
        for too_small in [0, blocks, blocks + 15] {
            let bytes = u128::from(too_small) * 4096;
            assert_eq!(Layout::member(too_small, 4096), Err(LayoutError::TooSmall { bytes, needed }));
        }
        assert_eq!(Layout::member(blocks + 16, 4096).map(|layout| layout.data_blocks()), Ok(16));
        assert_eq!(Layout::witness(32, 4096).map(|layout| layout.data_blocks()), Ok(0));
        assert!(Layout::witness(31, 4096).is_err());
        for block_size in [0, 256, 520, 131_072] {
            assert_eq!(Layout::member(1 << 20, block_size), Err(LayoutError::BlockSize(block_size)));
        }
        assert_eq!(
            LayoutError::BlockSize(520).to_string(),
            "its blocks have 520 bytes, not a power of two from 512 to 65536"
        );
        assert_eq!(Layout::member(1 << 54, 512), Err(LayoutError::TooLarge(1 << 63)));
        assert!(Layout::member((1 << 54) - 1, 512).is_ok());
    }

    proptest! {
        /// No two places have a block in common, and all are behind the data and within the device.
        #[test]
        fn places_are_apart(shift in 9u32..=16, bytes in METADATA_BYTES + 65_536..1 << 40) {
            let layout = Layout::member(bytes >> shift, 1 << shift).expect("there is room");
            let mut places = vec![Extent::between(0, layout.data_blocks())];
            for member in 0..MEMBERS_MAX {
                places.extend([Slot::First, Slot::Second].map(|slot| layout.tree(member, slot, TREE_ROOM as usize)));
            }
            places.extend([Slot::First, Slot::Second].map(|slot| layout.superblock(slot)));
            for pair in places.windows(2) {
                prop_assert!(pair[0].end() <= pair[1].start, "{pair:?}");
            }
            prop_assert!(places.last().is_some_and(|last| last.end() <= layout.device_blocks()));
            prop_assert!(layout.superblocks().covers(layout.superblock(Slot::Second)));
            let second = layout.superblock(Slot::Second).start - layout.superblocks().start;
            prop_assert_eq!(second << shift, Layout::within_superblocks(Slot::Second) as u64);
        }
    }
}
