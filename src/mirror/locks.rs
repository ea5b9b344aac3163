//! Locks of ranges: whatever changes blocks has the range to itself, in the order of arrival among
//! those that overlap.
//!
//! Each holder counts those before it that overlap its range, and has the lock when none is left.
//! Nearly always there is none: then a lock and an unlock look at no other holder, not even at their
//! memory, which the data of the I/O have pushed out of the CPU's caches. Marks show that a range meets
//! no other one, and otherwise all holders are looked at: with the number of I/O that a mirror has at
//! once, this costs less than a tree would.

use std::collections::VecDeque;
use std::ops::Range;

use crate::extents::Extent;
use crate::handles::{IoId, SlotId};

/// Who locks a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A user's write, or a read whose blocks are repaired.
    Io(IoId),
    /// A copy from one member to another one.
    Slot(SlotId),
    /// The window of a verification.
    Verification,
}

/// What a holder has or waits for.
#[derive(Debug, Clone, Copy)]
struct Lock {
    range: Extent,
    /// The number of locks that arrived before this one.
    arrival: u64,
    /// The number of earlier locks that overlap this one.
    ahead: u32,
}

const FREE: Lock = Lock { range: Extent::new(0, 0), arrival: 0, ahead: 0 };

/// The locked ranges of a mirror, and those that wait.
#[derive(Debug)]
pub(crate) struct Locks {
    /// The place of each holder: of users' I/O, of slots, and of the verification.
    places: Vec<Lock>,
    /// The number of users' I/O.
    ios: usize,
    /// A bit for each place: whether the holder has or waits for a lock.
    taken: Vec<u64>,
    /// The number of locks that have arrived.
    arrivals: u64,
    /// The number of locks that were not granted.
    waiting: usize,
    marks: Marks,
}

impl Locks {
    /// Returns locks for users' I/O and slots, by number, and for a verification, of blocks of
    /// `block_size` bytes.
    pub(crate) fn new(ios: usize, slots: usize, block_size: u32) -> Locks {
        let places = ios + slots + 1;
        assert!(places <= usize::from(u16::MAX), "{places} locks, more than a mark counts");
        Locks {
            places: vec![FREE; places],
            ios,
            taken: vec![0; places.div_ceil(64)],
            arrivals: 0,
            waiting: 0,
            marks: Marks::new(block_size),
        }
    }

    /// Locks a range, which is not empty. Returns false if the holder, which has no lock, has to wait:
    /// then [`Locks::unlock`] grants the lock later.
    #[inline]
    pub(crate) fn lock(&mut self, holder: Holder, range: Extent) -> bool {
        let ahead = if self.marks.add(range) { 0 } else { self.count_overlapping(range) };
        let at = self.place(holder);
        let (word, bit) = (at / 64, 1 << (at % 64));
        assert!(self.taken[word] & bit == 0, "{holder:?} locks twice");
        self.taken[word] |= bit;
        self.places[at] = Lock { range, arrival: self.arrivals, ahead };
        self.arrivals += 1;
        self.waiting += usize::from(ahead > 0);
        ahead == 0
    }

    /// Gives up a lock, whether or not it was granted. Adds those who have theirs now to `granted`,
    /// in the order of their arrival.
    #[inline]
    pub(crate) fn unlock(&mut self, holder: Holder, granted: &mut VecDeque<Holder>) {
        let at = self.place(holder);
        let (word, bit) = (at / 64, 1 << (at % 64));
        if self.taken[word] & bit == 0 {
            return;
        }
        self.taken[word] &= !bit;
        let lock = self.places[at];
        let is_clear = self.marks.remove(lock.range);
        self.waiting -= usize::from(lock.ahead > 0);
        if self.waiting > 0 && !is_clear {
            self.step_up(lock, granted);
        }
    }

    /// A lock is gone, and those that wait for it step up.
    fn step_up(&mut self, gone: Lock, granted: &mut VecDeque<Holder>) {
        let before = granted.len();
        for at in each(&self.taken) {
            let lock = &mut self.places[at];
            if lock.arrival < gone.arrival || !lock.range.overlaps(gone.range) {
                continue;
            }
            lock.ahead -= 1;
            if lock.ahead == 0 {
                self.waiting -= 1;
                granted.push_back(holder(at, self.ios, self.places.len()));
            }
        }
        if granted.len() > before + 1 {
            let arrival = |holder: &Holder| self.places[self.place(*holder)].arrival;
            granted.make_contiguous()[before..].sort_unstable_by_key(arrival);
        }
    }

    fn count_overlapping(&self, range: Extent) -> u32 {
        each(&self.taken).map(|at| u32::from(self.places[at].range.overlaps(range))).sum()
    }

    #[inline]
    fn place(&self, holder: Holder) -> usize {
        match holder {
            Holder::Io(io) => io.0 as usize,
            Holder::Slot(slot) => self.ios + usize::from(slot.0),
            Holder::Verification => self.places.len() - 1,
        }
    }

    /// Returns whether a holder has or waits for a lock.
    #[cfg(test)]
    fn has(&self, holder: Holder) -> bool {
        let at = self.place(holder);
        self.taken[at / 64] & 1 << (at % 64) != 0
    }
}

/// Returns the holder at one of so many places, of which those of users' I/O are the first.
fn holder(at: usize, ios: usize, places: usize) -> Holder {
    if at < ios {
        Holder::Io(IoId(at as u32))
    } else if at + 1 < places {
        Holder::Slot(SlotId((at - ios) as u16))
    } else {
        Holder::Verification
    }
}

/// Returns the places whose bits are set, in ascending order.
fn each(taken: &[u64]) -> impl Iterator<Item = usize> {
    taken.iter().enumerate().flat_map(|(word, &bits)| {
        let mut left = bits;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(word * 64 + bit)
        })
    })
}

/// For each lock, a mark for each of its units: a range without marks overlaps no lock. Units share
/// marks, so one with marks need not overlap any.
#[derive(Debug)]
struct Marks {
    /// No more than there are locks: the units of one have different marks.
    marks: Box<[u16; Marks::COUNT]>,
    /// The binary logarithm of the number of blocks in a unit.
    shift: u32,
    /// The number of locks that are too long to have marks.
    long: usize,
}

impl Marks {
    /// The number of marks, a power of two. With 128 writes of a unit each under way, a random one
    /// meets another one's mark once in 32 times; the marks have 8 KiB.
    const COUNT: usize = 4096;

    /// The size of a unit in bytes: the usual block of a file system, so that neighbours that are
    /// written at once do not share marks.
    const UNIT_BYTES: u32 = 4096;

    /// The maximum number of units with marks of a lock. For a longer range, it costs less to look at
    /// all locks.
    const UNITS_MAX: u64 = 64;

    fn new(block_size: u32) -> Marks {
        let blocks = (Marks::UNIT_BYTES / block_size).max(1);
        Marks { marks: Box::new([0; Marks::COUNT]), shift: blocks.ilog2(), long: 0 }
    }

    /// Returns the units of a range, unless it is long.
    #[inline]
    fn units(&self, range: Extent) -> Option<Range<u64>> {
        let (first, last) = (range.start >> self.shift, (range.end() - 1) >> self.shift);
        (last - first < Marks::UNITS_MAX).then_some(first..last + 1)
    }

    /// Returns the place of a unit's mark. Neighbours have different ones, and so have, mostly, units
    /// at regular distances.
    #[inline]
    fn place(unit: u64) -> usize {
        // 2^64 divided by the golden ratio: Fibonacci hashing.
        (unit.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Marks::COUNT.ilog2())) as usize
    }

    /// Adds the marks of a lock. Returns whether it overlaps no other lock for sure.
    #[inline]
    fn add(&mut self, range: Extent) -> bool {
        let Some(units) = self.units(range) else {
            self.long += 1;
            return false;
        };
        let mut is_clear = self.long == 0;
        for unit in units {
            let marks = &mut self.marks[Marks::place(unit)];
            is_clear &= *marks == 0;
            *marks += 1;
        }
        is_clear
    }

    /// Takes the marks of a lock away. Returns whether it overlaps no other lock for sure.
    #[inline]
    fn remove(&mut self, range: Extent) -> bool {
        let Some(units) = self.units(range) else {
            self.long -= 1;
            return false;
        };
        let mut is_clear = self.long == 0;
        for unit in units {
            let marks = &mut self.marks[Marks::place(unit)];
            *marks -= 1;
            is_clear &= *marks == 0;
        }
        is_clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn io(id: u32) -> Holder {
        Holder::Io(IoId(id))
    }

    fn locks(block_size: u32) -> Locks {
        Locks::new(64, 2, block_size)
    }

    #[test]
    fn the_order_among_overlapping_ranges_is_that_of_arrival() {
        let mut locks = locks(4096);
        let mut granted = VecDeque::new();
        assert!(locks.lock(io(1), Extent::new(0, 10)));
        assert!(!locks.lock(io(2), Extent::new(5, 10)));
        // Free of 1, but behind 2.
        assert!(!locks.lock(io(3), Extent::new(12, 1)));
        assert!(locks.lock(Holder::Slot(SlotId(1)), Extent::new(20, 1)));
        locks.unlock(io(1), &mut granted);
        assert_eq!(granted, [io(2)]);
        granted.clear();
        locks.unlock(io(2), &mut granted);
        assert_eq!(granted, [io(3)]);
        assert!(!locks.has(io(2)) && locks.has(io(3)));
    }

    #[test]
    fn a_waiting_lock_can_be_given_up() {
        let mut locks = locks(4096);
        let mut granted = VecDeque::new();
        assert!(locks.lock(io(1), Extent::new(0, 4)));
        assert!(!locks.lock(io(2), Extent::new(0, 8)));
        assert!(!locks.lock(io(3), Extent::new(6, 1)));
        locks.unlock(io(2), &mut granted);
        assert_eq!(granted, [io(3)], "1 does not overlap it");
        locks.unlock(io(9), &mut granted);
        assert_eq!(granted.len(), 1, "who holds nothing gives up nothing");
    }

    #[test]
    fn all_kinds_of_holders_are_granted() {
        let mut locks = locks(4096);
        let mut granted = VecDeque::new();
        let all = [io(0), io(63), Holder::Slot(SlotId(0)), Holder::Slot(SlotId(1)), Holder::Verification];
        for (number, holder) in all.into_iter().enumerate() {
            assert_eq!(locks.lock(holder, Extent::new(7, 1)), number == 0);
        }
        for holder in all {
            locks.unlock(holder, &mut granted);
        }
        assert_eq!(granted, &all[1..]);
    }

    proptest! {
        /// Against a list of all in the order of arrival. Of blocks of 512 bytes, 8 share a unit, and 600
        /// are long.
        #[test]
        fn as_the_list_of_arrivals_says(
            steps in proptest::collection::vec(
                (0u64..20, prop_oneof![8 => 1u64..6, 1 => 400u64..600], 0usize..8),
                1..60,
            ),
            block_size in prop_oneof![Just(512), Just(4096), Just(65_536)],
        ) {
            let mut locks = locks(block_size);
            let mut arrivals: Vec<(Holder, Extent, bool)> = Vec::new();
            for (id, (start, count, leaves)) in steps.into_iter().enumerate() {
                // Each once, in another order than that of arrival.
                let (holder, range) = (io(id as u32 * 37 % 64), Extent::new(start * count.min(6), count));
                let is_free = arrivals.iter().all(|(_, other, _)| !other.overlaps(range));
                prop_assert_eq!(locks.lock(holder, range), is_free);
                arrivals.push((holder, range, is_free));
                if leaves < arrivals.len() {
                    let (left, ..) = arrivals.remove(leaves);
                    let mut granted = VecDeque::new();
                    locks.unlock(left, &mut granted);
                    let mut expected = Vec::new();
                    for at in 0..arrivals.len() {
                        let (holder, range, has) = arrivals[at];
                        if !has && arrivals[..at].iter().all(|(_, other, _)| !other.overlaps(range)) {
                            arrivals[at].2 = true;
                            expected.push(holder);
                        }
                    }
                    prop_assert_eq!(granted, expected);
                }
            }
            for (holder, ..) in arrivals {
                locks.unlock(holder, &mut VecDeque::new());
            }
            prop_assert_eq!((locks.waiting, locks.marks.long), (0, 0));
            prop_assert!(locks.taken.iter().all(|&bits| bits == 0), "a lock that is gone");
            prop_assert!(locks.marks.marks.iter().all(|&marks| marks == 0), "a mark of a lock that is gone");
        }
    }
}
