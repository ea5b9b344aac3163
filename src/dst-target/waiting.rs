//! The exports that wait for bdevs, and the order in which the bdevs are looked for. Pure: the
//! caller asks SPDK.
//!
//! The exports that wait for a new bdev are found without a walk over all exports. A search asks
//! SPDK for a bounded number of names, however many exports are offline: on SPDK 20.07, each name
//! costs a walk over all bdevs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

/// The offline exports that wait for a bdev.
#[derive(Debug, Default)]
pub struct WaitingExports {
    /// The exports that wait for a bdev, by its name.
    by_bdev: BTreeMap<String, BTreeSet<String>>,
    /// For each export, the names of the bdev that it waits for: the name that the operator gave,
    /// and possibly the own name of the last bdev.
    by_export: BTreeMap<String, Vec<String>>,
    /// The last export whose bdev was looked for.
    last: Option<String>,
}

impl WaitingExports {
    /// Adds an export that waits for a bdev with one of these names.
    pub fn add(&mut self, export: &str, bdevs: Vec<String>) {
        self.remove(export);
        for bdev in &bdevs {
            self.by_bdev.entry(bdev.clone()).or_default().insert(export.to_owned());
        }
        self.by_export.insert(export.to_owned(), bdevs);
    }

    /// Removes an export, which no longer waits.
    pub fn remove(&mut self, export: &str) {
        for bdev in self.by_export.remove(export).unwrap_or_default() {
            if let Some(exports) = self.by_bdev.get_mut(&bdev) {
                exports.remove(export);
                if exports.is_empty() {
                    self.by_bdev.remove(&bdev);
                }
            }
        }
    }

    /// Returns true if no export waits.
    pub fn is_empty(&self) -> bool {
        self.by_export.is_empty()
    }

    /// Returns the exports that wait for the bdev of this name.
    pub fn of_bdev(&self, bdev: &str) -> Vec<String> {
        self.by_bdev.get(bdev).into_iter().flatten().cloned().collect()
    }

    /// Returns up to `max` exports whose bdevs are to be looked for now. Each export gets its turn
    /// before another one gets a second turn.
    pub fn next(&mut self, max: usize) -> Vec<String> {
        let last = self.last.take().unwrap_or_default();
        let found: Vec<String> = self.rota(&last).take(max).cloned().collect();
        self.last = found.last().cloned();
        found
    }

    /// Returns all exports once, beginning behind `last`.
    fn rota(&self, last: &str) -> impl Iterator<Item = &String> {
        let behind = self.by_export.range::<str, _>((Excluded(last), Unbounded));
        let before = self.by_export.range::<str, _>((Unbounded, Included(last)));
        behind.chain(before).map(|(export, _)| export)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(count: usize) -> WaitingExports {
        let mut waiting = WaitingExports::default();
        for number in 0..count {
            waiting.add(&format!("export{number:04}"), vec![format!("bdev{number}")]);
        }
        waiting
    }

    #[test]
    fn a_bdev_finds_the_exports_that_wait_for_it() {
        let mut waiting = many(3);
        waiting.add("other", vec!["bdev1".to_owned(), "alias".to_owned()]);
        assert_eq!(waiting.of_bdev("bdev1"), ["export0001", "other"]);
        assert_eq!(waiting.of_bdev("alias"), ["other"]);
        // An export that waits again, for something else.
        waiting.add("other", vec!["bdev2".to_owned()]);
        assert_eq!(waiting.of_bdev("bdev1"), ["export0001"]);
        assert_eq!(waiting.of_bdev("alias"), [""; 0]);
        for export in ["export0000", "export0001", "export0002", "other"] {
            assert!(!waiting.is_empty());
            waiting.remove(export);
        }
        waiting.remove("other");
        assert!(waiting.is_empty() && waiting.by_bdev.is_empty());
    }

    /// The work of a look is bounded, whatever waits, and nobody is left out.
    #[test]
    fn each_gets_its_turn() {
        let (count, max) = (2000, 32);
        let mut waiting = many(count);
        let mut seen = BTreeSet::new();
        for _ in 0..count.div_ceil(max) {
            let turn = waiting.next(max);
            assert_eq!(turn.len(), max);
            seen.extend(turn);
        }
        assert_eq!(seen.len(), count);
        // The one that was looked at last may be gone by the next turn.
        let turn = waiting.next(max);
        waiting.remove(turn.last().unwrap());
        assert!(waiting.next(max)[0] > turn[max - 1]);
        // None comes twice in one turn.
        let mut few = many(3);
        assert_eq!(few.next(max).len(), 3);
        assert_eq!(few.next(2), ["export0000", "export0001"]);
        assert_eq!(few.next(2), ["export0002", "export0000"]);
        assert_eq!(WaitingExports::default().next(max), [""; 0]);
    }
}
