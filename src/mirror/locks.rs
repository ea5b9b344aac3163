//! Locks of ranges: whatever changes blocks has the range to itself, in the order of arrival among
//! those that overlap.
//!
//! Each holder counts those before it that overlap its range, and has the lock when none is left.
//! All holders are looked at for each lock and unlock: with the number of I/O that a mirror has at
//! once, this costs less than a tree would.

use std::collections::VecDeque;

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

#[derive(Debug, Clone, Copy)]
struct Lock {
    range: Extent,
    holder: Holder,
    /// The number of earlier locks that overlap this one.
    ahead: u32,
}

/// The locked ranges of a mirror, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    locks: Vec<Lock>,
}

impl Locks {
    /// Returns locks with room for `max` holders.
    pub(crate) fn new(max: usize) -> Locks {
        Locks { locks: Vec::with_capacity(max) }
    }

    /// Locks a range, which is not empty. Returns false if the holder has to wait: then
    /// [`Locks::unlock`] grants the lock later.
    pub(crate) fn lock(&mut self, holder: Holder, range: Extent) -> bool {
        let ahead = self.locks.iter().filter(|lock| lock.range.overlaps(range)).count() as u32;
        self.locks.push(Lock { range, holder, ahead });
        ahead == 0
    }

    /// Gives up a lock, whether or not it was granted. Adds those who have theirs now to `granted`,
    /// in the order of their arrival.
    pub(crate) fn unlock(&mut self, holder: Holder, granted: &mut VecDeque<Holder>) {
        let Some(at) = self.locks.iter().position(|lock| lock.holder == holder) else { return };
        // Later locks are behind this one: the order is kept.
        let range = self.locks.remove(at).range;
        for lock in self.locks[at..].iter_mut().filter(|lock| lock.range.overlaps(range)) {
            lock.ahead -= 1;
            if lock.ahead == 0 {
                granted.push_back(lock.holder);
            }
        }
    }

    /// Returns whether a holder has or waits for a lock.
    #[cfg(test)]
    fn has(&self, holder: Holder) -> bool {
        self.locks.iter().any(|lock| lock.holder == holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn io(id: u32) -> Holder {
        Holder::Io(IoId(id))
    }

    #[test]
    fn the_order_among_overlapping_ranges_is_that_of_arrival() {
        let mut locks = Locks::new(4);
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
        let mut locks = Locks::new(4);
        let mut granted = VecDeque::new();
        assert!(locks.lock(io(1), Extent::new(0, 4)));
        assert!(!locks.lock(io(2), Extent::new(0, 8)));
        assert!(!locks.lock(io(3), Extent::new(6, 1)));
        locks.unlock(io(2), &mut granted);
        assert_eq!(granted, [io(3)], "1 does not overlap it");
        locks.unlock(io(9), &mut granted);
        assert_eq!(granted.len(), 1, "who holds nothing gives up nothing");
    }

    proptest! {
        /// Against a list of all in the order of arrival.
        #[test]
        fn as_the_list_of_arrivals_says(steps in proptest::collection::vec((0u64..20, 1u64..6, 0usize..8), 1..60)) {
            let mut locks = Locks::new(4);
            let mut arrivals: Vec<(Holder, Extent, bool)> = Vec::new();
            for (id, (start, count, leaves)) in steps.into_iter().enumerate() {
                let (holder, range) = (io(id as u32), Extent::new(start, count));
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
        }
    }
}
