//! The tree of what a member missed: ranges of blocks that neither overlap nor touch.
//!
//! A block that is written twice is in the tree once. The number of ranges is bounded: where there
//! would be more, the two neighbours with the smallest gap between them become one, so the tree may
//! contain blocks that were never inserted, but never lacks one that was.

use std::collections::{BTreeMap, BTreeSet};

/// A range of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// The first block.
    pub start: u64,
    /// The number of blocks. `start + count` is at most `u64::MAX`.
    pub count: u64,
}

impl Extent {
    /// Returns the range of `count` blocks from `start` on.
    pub const fn new(start: u64, count: u64) -> Extent {
        Extent { start, count }
    }

    /// Returns the range from `start` up to, and without, `end`, which is not below `start`.
    #[inline]
    pub const fn between(start: u64, end: u64) -> Extent {
        Extent { start, count: end - start }
    }

    /// Returns the block behind the last one.
    #[inline]
    pub const fn end(&self) -> u64 {
        self.start + self.count
    }

    /// Returns whether both have a block in common.
    #[inline]
    pub const fn overlaps(&self, other: Extent) -> bool {
        self.intersection(other).is_some()
    }

    /// Returns whether all blocks of `other` are in this range.
    #[inline]
    pub const fn covers(&self, other: Extent) -> bool {
        other.count == 0 || (self.start <= other.start && other.end() <= self.end())
    }

    /// Returns the blocks that both have in common, if there are any.
    #[inline]
    pub const fn intersection(&self, other: Extent) -> Option<Extent> {
        let start = if self.start > other.start { self.start } else { other.start };
        let end = if self.end() < other.end() { self.end() } else { other.end() };
        if start < end { Some(Extent::between(start, end)) } else { None }
    }
}

/// A set of blocks, as a bounded number of ranges.
#[derive(Debug, Clone)]
pub struct Extents {
    /// Each range's start and end. Between two of them is at least one block.
    ranges: BTreeMap<u64, u64>,
    /// The gaps behind all ranges but the last one: the gap's size, and its first block.
    gaps: BTreeSet<(u64, u64)>,
    blocks: u64,
    max: usize,
}

/// Sets are equal that have the same blocks, whatever their bounds.
impl PartialEq for Extents {
    fn eq(&self, other: &Extents) -> bool {
        self.ranges == other.ranges
    }
}

impl Eq for Extents {}

impl Extents {
    /// Returns a set without blocks that has at most `max` ranges.
    ///
    /// # Panics
    /// If `max` is less than 2: [`Extents::remove`] could not split a range.
    pub fn new(max: usize) -> Extents {
        assert!(max >= 2, "a tree of {max} ranges, not at least 2");
        Extents { ranges: BTreeMap::new(), gaps: BTreeSet::new(), blocks: 0, max }
    }

    /// Returns whether the set has no blocks.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the number of ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Returns the number of blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Extent> + '_ {
        self.ranges.iter().map(|(&start, &end)| Extent::between(start, end))
    }

    /// Adds blocks, some of which may be in the set.
    pub fn insert(&mut self, extent: Extent) {
        if extent.count == 0 {
            return;
        }
        let (mut start, mut end) = (extent.start, extent.end());
        // The first range that the new one overlaps or touches, and those behind it.
        while let Some((from, to)) = self.last_before(end.saturating_add(1)).filter(|&(_, to)| to >= start) {
            if from <= start && to >= end {
                return;
            }
            self.take(from, to);
            (start, end) = (start.min(from), end.max(to));
        }
        self.put(start, end);
        self.bound(None);
    }

    /// Adds all blocks of another set.
    pub fn insert_all(&mut self, other: &Extents) {
        other.iter().for_each(|extent| self.insert(extent));
    }

    /// Removes blocks, some of which may not be in the set. If this splits a range and the bound
    /// is reached, another gap than this one is filled.
    pub fn remove(&mut self, extent: Extent) {
        if extent.count == 0 {
            return;
        }
        while let Some((from, to)) = self.last_before(extent.end()).filter(|&(_, to)| to > extent.start) {
            self.take(from, to);
            if to > extent.end() {
                self.put(extent.end(), to);
            }
            if from < extent.start {
                self.put(from, extent.start);
            }
        }
        self.bound(Some(extent.start));
    }

    /// Removes all blocks.
    pub fn clear(&mut self) {
        self.ranges.clear();
        self.gaps.clear();
        self.blocks = 0;
    }

    /// Returns whether all blocks of the range are in the set.
    pub fn covers(&self, extent: Extent) -> bool {
        extent.count == 0
            || self
                .last_before(extent.end())
                .is_some_and(|(from, to)| Extent::between(from, to).covers(extent))
    }

    /// Returns whether one of the range's blocks is in the set.
    #[inline]
    pub fn overlaps(&self, extent: Extent) -> bool {
        extent.count > 0 && self.last_before(extent.end()).is_some_and(|(_, to)| to > extent.start)
    }

    /// Returns what is left at or behind the block `at` of the first range that has blocks there.
    pub fn next_from(&self, at: u64) -> Option<Extent> {
        let within = self.last_before(at.saturating_add(1)).filter(|&(_, to)| to > at);
        let (from, to) = match within {
            Some((_, to)) => (at, to),
            None => self.ranges.range(at..).next().map(|(&from, &to)| (from, to))?,
        };
        Some(Extent::between(from, to))
    }

    /// Returns the last range that begins before `end`.
    #[inline]
    fn last_before(&self, end: u64) -> Option<(u64, u64)> {
        self.ranges.range(..end).next_back().map(|(&from, &to)| (from, to))
    }

    fn first_behind(&self, end: u64) -> Option<u64> {
        self.ranges.range(end..).next().map(|(&from, _)| from)
    }

    /// Takes a range out, and has its neighbours' gap cover its place.
    fn take(&mut self, from: u64, to: u64) {
        self.ranges.remove(&from);
        self.blocks -= to - from;
        let (before, behind) = (self.last_before(from), self.first_behind(to));
        if let Some((_, end)) = before {
            self.gaps.remove(&(from - end, end));
        }
        if let Some(start) = behind {
            self.gaps.remove(&(start - to, to));
        }
        if let (Some((_, end)), Some(start)) = (before, behind) {
            self.gaps.insert((start - end, end));
        }
    }

    /// Puts a range in, which neither overlaps nor touches another one.
    fn put(&mut self, from: u64, to: u64) {
        let (before, behind) = (self.last_before(from), self.first_behind(to));
        if let (Some((_, end)), Some(start)) = (before, behind) {
            self.gaps.remove(&(start - end, end));
        }
        if let Some((_, end)) = before {
            self.gaps.insert((from - end, end));
        }
        if let Some(start) = behind {
            self.gaps.insert((start - to, to));
        }
        self.ranges.insert(from, to);
        self.blocks += to - from;
    }

    /// Fills the smallest gap if there is a range too many. The gap that begins at the block
    /// `spared` stays.
    fn bound(&mut self, spared: Option<u64>) {
        if self.ranges.len() <= self.max {
            return;
        }
        let (size, end) = *self
            .gaps
            .iter()
            .find(|&&(_, begin)| Some(begin) != spared)
            .expect("more than two ranges have more than one gap");
        let (before, _) = self.last_before(end).expect("a range ends where a gap begins");
        let behind = end + size;
        let last = self.ranges[&behind];
        self.take(before, end);
        self.take(behind, last);
        self.put(before, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(max: usize, ranges: &[(u64, u64)]) -> Extents {
        let mut extents = Extents::new(max);
        ranges.iter().for_each(|&(start, count)| extents.insert(Extent::new(start, count)));
        extents
    }

    fn list(extents: &Extents) -> Vec<(u64, u64)> {
        extents.iter().map(|extent| (extent.start, extent.count)).collect()
    }

    #[test]
    fn neighbours_merge_and_a_block_counts_once() {
        let mut extents = of(9, &[(10, 5), (20, 5), (15, 5), (12, 2)]);
        assert_eq!((list(&extents), extents.blocks()), (vec![(10, 15)], 15));
        extents.remove(Extent::new(12, 1));
        assert_eq!(list(&extents), [(10, 2), (13, 12)]);
        extents.insert(Extent::new(0, 100));
        assert_eq!(list(&extents), [(0, 100)]);
        extents.insert(Extent::new(50, 0));
        extents.remove(Extent::new(50, 0));
        assert_eq!(list(&extents), [(0, 100)]);
    }

    #[test]
    fn the_smallest_gap_is_filled_when_there_are_too_many() {
        let mut extents = of(3, &[(0, 1), (10, 1), (13, 1), (100, 1)]);
        assert_eq!(list(&extents), [(0, 1), (10, 4), (100, 1)]);
        extents.remove(Extent::new(11, 2));
        assert_eq!(list(&extents), [(0, 11), (13, 1), (100, 1)], "the gap that was made is spared");
    }

    #[test]
    fn the_highest_blocks_are_blocks_like_others() {
        let mut extents = of(2, &[(u64::MAX - 2, 2)]);
        assert!(extents.covers(Extent::new(u64::MAX - 1, 1)) && !extents.overlaps(Extent::new(0, 9)));
        assert_eq!(extents.next_from(u64::MAX), None);
        assert_eq!(extents.next_from(0), Some(Extent::new(u64::MAX - 2, 2)));
        extents.remove(Extent::between(0, u64::MAX));
        assert!(extents.is_empty());
    }

    /// The blocks of the model.
    const BLOCKS: u64 = 96;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Insert(Extent),
        Remove(Extent),
        Clear,
    }

    fn any_extent() -> impl Strategy<Value = Extent> {
        (0..BLOCKS, 0u64..12).prop_map(|(start, count)| Extent::new(start, count.min(BLOCKS - start)))
    }

    fn any_steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => any_extent().prop_map(Step::Insert),
            4 => any_extent().prop_map(Step::Remove),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..60)
    }

    fn blocks(extent: Extent) -> impl Iterator<Item = usize> {
        (extent.start..extent.end()).map(|block| block as usize)
    }

    /// What the ranges and gaps of a set have to be, whatever its blocks are.
    fn check_shape(extents: &Extents) -> Result<(), TestCaseError> {
        let ranges: Vec<Extent> = extents.iter().collect();
        prop_assert!(ranges.len() <= extents.max && ranges.iter().all(|range| range.count > 0));
        let gaps: BTreeSet<(u64, u64)> =
            ranges.windows(2).map(|pair| (pair[1].start - pair[0].end(), pair[0].end())).collect();
        prop_assert!(gaps.iter().all(|&(size, _)| size > 0));
        prop_assert_eq!(&gaps, &extents.gaps);
        prop_assert_eq!(extents.blocks(), ranges.iter().map(|range| range.count).sum::<u64>());
        Ok(())
    }

    proptest! {
        /// With room enough the set is what a list of booleans is.
        #[test]
        fn agrees_with_a_list_of_blocks(steps in any_steps(), asked in any_extent()) {
            let (mut extents, mut model) = (Extents::new(BLOCKS as usize), [false; BLOCKS as usize]);
            for step in steps {
                match step {
                    Step::Insert(extent) => {
                        extents.insert(extent);
                        blocks(extent).for_each(|block| model[block] = true);
                    }
                    Step::Remove(extent) => {
                        extents.remove(extent);
                        blocks(extent).for_each(|block| model[block] = false);
                    }
                    Step::Clear => {
                        extents.clear();
                        model.fill(false);
                    }
                }
                check_shape(&extents)?;
                let mut found = [false; BLOCKS as usize];
                extents.iter().flat_map(blocks).for_each(|block| found[block] = true);
                prop_assert_eq!(found, model);
                prop_assert_eq!(extents.is_empty(), !model.contains(&true));
                prop_assert_eq!(extents.covers(asked), blocks(asked).all(|block| model[block]));
                prop_assert_eq!(extents.overlaps(asked), blocks(asked).any(|block| model[block]));
                let next = (asked.start..BLOCKS).find(|&block| model[block as usize]);
                let end = |from| (from..BLOCKS).find(|&block| !model[block as usize]).unwrap_or(BLOCKS);
                let next = next.map(|from| Extent::between(from, end(from)));
                prop_assert_eq!(extents.next_from(asked.start), next);
            }
        }

        /// With a bound the set loses no block, and what was just removed is gone.
        #[test]
        fn loses_no_block_to_its_bound(max in 2usize..6, steps in any_steps()) {
            let (mut extents, mut model) = (Extents::new(max), [false; BLOCKS as usize]);
            for step in steps {
                let before = extents.blocks();
                match step {
                    Step::Insert(extent) => {
                        extents.insert(extent);
                        prop_assert!(extents.covers(extent) && extents.blocks() >= before);
                        blocks(extent).for_each(|block| model[block] = true);
                    }
                    Step::Remove(extent) => {
                        extents.remove(extent);
                        prop_assert!(!extents.overlaps(extent));
                        blocks(extent).for_each(|block| model[block] = false);
                    }
                    Step::Clear => {
                        extents.clear();
                        model.fill(false);
                    }
                }
                check_shape(&extents)?;
                for (block, _) in model.iter().enumerate().filter(|(_, is_in)| **is_in) {
                    prop_assert!(extents.covers(Extent::new(block as u64, 1)));
                }
            }
        }

        #[test]
        fn a_union_has_the_blocks_of_both(
            one in proptest::collection::vec(any_extent(), 0..12), other in proptest::collection::vec(any_extent(), 0..12),
        ) {
            let (mut union, mut second) = (Extents::new(64), Extents::new(64));
            one.iter().for_each(|&extent| union.insert(extent));
            other.iter().for_each(|&extent| second.insert(extent));
            union.insert_all(&second);
            let mut all = Extents::new(64);
            one.iter().chain(&other).for_each(|&extent| all.insert(extent));
            prop_assert_eq!(union, all);
        }

        #[test]
        fn ranges_compare_by_their_blocks(one in any_extent(), other in any_extent()) {
            let common: Vec<usize> = blocks(one).filter(|&block| blocks(other).any(|b| b == block)).collect();
            prop_assert_eq!(one.overlaps(other), !common.is_empty());
            prop_assert_eq!(one.covers(other), common.len() as u64 == other.count);
            let both = one.intersection(other).map(|extent| blocks(extent).collect());
            prop_assert_eq!(both, (!common.is_empty()).then_some(common));
        }
    }
}
