//! What a member missed, in memory.

use crate::extents::{Extent, Extents};

/// What a member missed. On disk, all three are one tree.
pub(crate) struct Missed {
    /// The blocks that are old or unknown: they are not read, and writes to them are not sent.
    pub(crate) blocks: Extents,
    /// Blocks that were copied since the last flush began.
    pub(crate) copied: Extents,
    /// Blocks that were copied before, while the flush goes on.
    pub(crate) flushing: Extents,
    /// Counts changes of the tree.
    pub(crate) version: u64,
    /// The version that is durable on all members in sync.
    pub(crate) durable: u64,
}

impl Missed {
    pub(crate) fn new(max: usize) -> Missed {
        let empty = || Extents::new(max);
        Missed { blocks: empty(), copied: empty(), flushing: empty(), version: 0, durable: 0 }
    }

    pub(crate) fn insert(&mut self, extent: Extent) {
        self.blocks.insert(extent);
        self.version += 1;
    }

    /// Counts all copies that were not flushed as missed again.
    pub(crate) fn forget_copies(&mut self) {
        for unflushed in [&mut self.copied, &mut self.flushing] {
            self.blocks.insert_all(unflushed);
            unflushed.clear();
        }
        self.version += 1;
    }

    /// Counts all copies as flushed.
    pub(crate) fn forget_flushed(&mut self) {
        if !self.copied.is_empty() || !self.flushing.is_empty() {
            self.copied.clear();
            self.flushing.clear();
            self.version += 1;
        }
    }

    /// Forgets everything: the member is in sync.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.copied.clear();
        self.flushing.clear();
        self.version += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.copied.is_empty() && self.flushing.is_empty()
    }
}
