//! The size of the regions into which a device is divided for the intent log.

use std::ops::Range;

use dst_wire::BLOCK_SIZES;

use crate::extents::Extent;

/// The maximum number of regions of a device, so that a region's number has 16 bits.
pub const REGIONS_MAX: u64 = 1 << 16;

/// The minimum size of a region in bytes: below it, resync after a crash takes no noticeable time,
/// and a sequential load would rewrite the metadata more often.
pub const REGION_MIN: u64 = 1 << 20;

/// The size of a device's regions: a power of two of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionSize {
    shift: u32,
}

impl RegionSize {
    /// Returns the smallest size for a device of `blocks` blocks of `block_size` bytes: at least
    /// [`REGION_MIN`], and at most [`REGIONS_MAX`] regions.
    ///
    /// # Panics
    /// If `block_size` is not a power of two within [`BLOCK_SIZES`].
    pub fn for_device(blocks: u64, block_size: u32) -> RegionSize {
        assert!(
            block_size.is_power_of_two() && BLOCK_SIZES.contains(&block_size),
            "blocks of {block_size} bytes"
        );
        let min = REGION_MIN / u64::from(block_size);
        let size = blocks.div_ceil(REGIONS_MAX).checked_next_power_of_two().unwrap_or(1 << 63).max(min);
        RegionSize { shift: size.ilog2() }
    }

    /// Returns the size of 2^`shift` blocks if a device of `blocks` blocks then has at most
    /// [`REGIONS_MAX`] regions.
    pub fn from_shift(shift: u32, blocks: u64) -> Option<RegionSize> {
        (shift < 64 && (blocks.saturating_sub(1) >> shift) < REGIONS_MAX).then_some(RegionSize { shift })
    }

    /// Returns the binary logarithm of the size in blocks.
    pub fn shift(self) -> u32 {
        self.shift
    }

    /// Returns the size in blocks.
    pub fn blocks(self) -> u64 {
        1 << self.shift
    }

    /// Returns the number of regions of a device of `blocks` blocks.
    pub fn count(self, blocks: u64) -> u64 {
        if blocks == 0 { 0 } else { ((blocks - 1) >> self.shift) + 1 }
    }

    /// Returns the region of a block.
    #[inline]
    pub fn region_of(self, block: u64) -> u16 {
        (block >> self.shift) as u16
    }

    /// Returns the blocks of a region of a device of `blocks` blocks. The last region may be
    /// shorter than others.
    pub fn extent(self, region: u16, blocks: u64) -> Extent {
        let start = u64::from(region) << self.shift;
        Extent::new(start, self.blocks().min(blocks.saturating_sub(start)))
    }

    /// Returns the regions of a range that is not empty.
    #[inline]
    pub(crate) fn regions(self, extent: Extent) -> Range<usize> {
        usize::from(self.region_of(extent.start))..usize::from(self.region_of(extent.end() - 1)) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_at_most_as_many_regions_as_16_bits_count() {
        for (blocks, block_size, size, count) in [
            (1, 512, 2048, 1),
            (2048, 512, 2048, 1),
            (2049, 512, 2048, 2),
            (1 << 20, 4096, 256, 4096),
            (1 << 24, 4096, 256, 1 << 16),
            ((1 << 24) + 1, 4096, 512, (1 << 15) + 1),
            (1 << 20, 65_536, 16, 1 << 16),
            (1 << 54, 512, 1 << 38, 1 << 16),
        ] {
            let region = RegionSize::for_device(blocks, block_size);
            assert_eq!((region.blocks(), region.count(blocks)), (size, count), "{blocks} of {block_size}");
            assert_eq!(RegionSize::from_shift(region.shift(), blocks), Some(region));
            let last = region.extent(region.region_of(blocks - 1), blocks);
            assert_eq!(last.end(), blocks);
        }
        assert_eq!(RegionSize::from_shift(8, (1 << 24) + 1), None);
        assert_eq!(RegionSize::from_shift(64, 1), None);
    }
}
