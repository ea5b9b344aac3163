//! The bytes of a tree of missed blocks.

use dst_wire::Crc32c;

use super::layout::{Slot, TREE_ROOM};
use crate::extents::{Extent, Extents};

/// The maximum number of ranges in a tree.
pub const TREE_EXTENTS_MAX: usize = (TREE_ROOM as usize - HEADER) / EXTENT;

/// The bytes before the ranges: the tree's number (8), the number of ranges (4), and zeroes.
const HEADER: usize = 16;

/// The bytes of a range: its first block (8) and its number of blocks (8).
const EXTENT: usize = 16;

/// What a superblock says about a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeRef {
    /// Where the tree is.
    pub(super) slot: Slot,
    /// The number of the record with which the tree was written.
    pub(super) number: u64,
    /// The number of ranges. An empty tree is not written.
    pub(super) count: u32,
    /// The CRC32C of the tree's bytes.
    pub(super) crc: u32,
}

impl TreeRef {
    /// Returns what is said of a tree without ranges. The next one goes to the other place than `slot`.
    pub(super) const fn empty(slot: Slot) -> TreeRef {
        TreeRef { slot, number: 0, count: 0, crc: 0 }
    }

    /// Returns the length of the tree in bytes.
    pub(super) fn bytes(&self) -> usize {
        HEADER + EXTENT * self.count as usize
    }
}

/// Returns the bytes of a tree that is not empty, and what the superblock says about it.
///
/// # Panics
/// If the tree has more than [`TREE_EXTENTS_MAX`] ranges.
pub(super) fn encode(tree: &Extents, slot: Slot, number: u64) -> (TreeRef, Vec<u8>) {
    assert!(tree.len() <= TREE_EXTENTS_MAX, "a tree of {} ranges, at most {TREE_EXTENTS_MAX}", tree.len());
    let mut bytes = Vec::with_capacity(HEADER + EXTENT * tree.len());
    bytes.extend(number.to_le_bytes());
    bytes.extend((tree.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    for extent in tree.iter() {
        bytes.extend(extent.start.to_le_bytes());
        bytes.extend(extent.count.to_le_bytes());
    }
    (TreeRef { slot, number, count: tree.len() as u32, crc: Crc32c::of(&bytes) }, bytes)
}

/// Returns the tree of a mirror of `blocks` blocks that the superblock names, or nothing if these
/// bytes are another one or damaged.
pub(super) fn decode(bytes: &[u8], named: &TreeRef, blocks: u64) -> Option<Extents> {
    let bytes = bytes.get(..named.bytes())?;
    let (header, ranges) = bytes.split_at(HEADER);
    let number = u64::from_le_bytes(*header.first_chunk()?);
    if Crc32c::of(bytes) != named.crc || number != named.number || header[8..12] != named.count.to_le_bytes()
    {
        return None;
    }
    let mut tree = Extents::new(TREE_EXTENTS_MAX);
    // The first block at which the next range may begin: ranges do not touch.
    let mut from = 0;
    for range in ranges.chunks_exact(EXTENT) {
        let start = u64::from_le_bytes(*range.first_chunk()?);
        let count = u64::from_le_bytes(*range.last_chunk()?);
        let end = start.checked_add(count).filter(|&end| end <= blocks)?;
        if start < from || count == 0 {
            return None;
        }
        tree.insert(Extent::new(start, count));
        from = end + 1;
    }
    Some(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: u64 = 10_000;

    fn any_tree() -> impl Strategy<Value = Extents> {
        proptest::collection::vec((0..BLOCKS - 20, 1u64..20), 1..50).prop_map(|ranges| {
            let mut tree = Extents::new(TREE_EXTENTS_MAX);
            ranges.iter().for_each(|&(start, count)| tree.insert(Extent::new(start, count)));
            tree
        })
    }

    #[test]
    fn the_layout() {
        let mut tree = Extents::new(2);
        tree.insert(Extent::new(0x0102, 3));
        let (named, bytes) = encode(&tree, Slot::Second, 7);
        let expected = [
            [7, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0],
            [2, 1, 0, 0, 0, 0, 0, 0],
            [3, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!((bytes.as_slice(), named.bytes()), (expected.as_flattened(), 32));
        assert_eq!((named.count, named.number, named.crc), (1, 7, Crc32c::of(&bytes)));
        assert_eq!(TREE_EXTENTS_MAX, 32_767);
    }

    #[test]
    fn ranges_that_no_mirror_writes_are_refused() {
        for ranges in [&[(5, 0)][..], &[(0, 5), (5, 1)], &[(7, 1), (3, 1)], &[(9_999, 2)], &[(u64::MAX, 2)]] {
            let mut bytes = encode(&Extents::new(2), Slot::First, 1).1;
            bytes[8] = ranges.len() as u8;
            for &(start, count) in ranges {
                bytes.extend([start, count].map(u64::to_le_bytes).as_flattened());
            }
            let named =
                TreeRef { slot: Slot::First, number: 1, count: ranges.len() as u32, crc: Crc32c::of(&bytes) };
            assert_eq!(decode(&bytes, &named, BLOCKS), None, "{ranges:?}");
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_read_as_it_was_written(tree in any_tree(), number: u64, more in 0usize..5000) {
            let (named, mut bytes) = encode(&tree, Slot::First, number);
            prop_assert_eq!(bytes.len(), named.bytes());
            bytes.resize(bytes.len() + more, 0xee);
            prop_assert_eq!(decode(&bytes, &named, BLOCKS), Some(tree));
        }

        #[test]
        fn what_is_damaged_or_another_tree_is_refused(tree in any_tree(), at: usize, bit in 0u8..8, cut: usize) {
            let (named, bytes) = encode(&tree, Slot::First, 5);
            let mut damaged = bytes.clone();
            damaged[at % bytes.len()] ^= 1 << bit;
            prop_assert_eq!(decode(&damaged, &named, BLOCKS), None);
            prop_assert_eq!(decode(&bytes[..cut % bytes.len()], &named, BLOCKS), None);
            prop_assert_eq!(decode(&bytes, &TreeRef { number: 6, ..named }, BLOCKS), None);
        }
    }
}
