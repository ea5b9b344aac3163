//! What to write where.

use super::layout::{Layout, SUPERBLOCK_BYTES, Slot};
use super::record::Record;
use super::superblock::{self, Trees};
use super::tree::{self, TreeRef};
use crate::configuration::MEMBERS_MAX;
use crate::extents::{Extent, Extents};
use crate::ids::MemberId;

/// Something to write to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The device's blocks.
    pub at: Extent,
    /// Their content.
    pub bytes: Vec<u8>,
}

/// The writes that record something on a device, in this order: the trees if there are any, a flush, the
/// superblock, a flush. Then comes [`Area::written`], or [`Area::failed`] as soon as one of them fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The trees, in any order; of a device that had no metadata, also zeroes for both superblocks; of
    /// one with a torn superblock, also what makes sure that it stays torn.
    pub trees: Vec<Write>,
    /// The superblock, which is written with one write.
    pub superblock: Write,
}

/// Whether it is known which superblock of the device is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was written. Whatever is there may be another mirror's.
    Fresh,
    /// The superblock at this place is durable, and these are the trees that it names.
    Known { newest: Slot, trees: Trees },
    /// As [`State::Known`], and the other superblock is not whole: a power loss may have torn it.
    Torn { newest: Slot, trees: Trees },
    /// An update has begun, which makes the other superblock the newest one, with these trees.
    Updating { newest: Slot, trees: Trees },
    /// An update has failed. Its superblock may be there or not, so none of the places is free.
    Unknown,
}

/// The metadata of one device, as its only writer knows them.
#[derive(Debug, Clone)]
pub struct Area {
    layout: Layout,
    own: MemberId,
    state: State,
}

impl Area {
    /// Returns the metadata of a device that has none, or that are all to be overwritten, for the
    /// member or witness `own`. The first update brings all trees.
    pub fn fresh(layout: Layout, own: MemberId) -> Area {
        Area { layout, own, state: State::Fresh }
    }

    /// Returns the metadata of a device whose superblock was read from `newest`. `has_both` tells whether
    /// the other one is whole, too.
    pub(super) fn found(layout: Layout, own: MemberId, newest: Slot, has_both: bool, trees: Trees) -> Area {
        let state = match has_both {
            true => State::Known { newest, trees },
            false => State::Torn { newest, trees },
        };
        Area { layout, own, state }
    }

    /// Returns where the metadata are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the member or witness whose metadata they are.
    pub fn own(&self) -> MemberId {
        self.own
    }

    /// Begins to record something. `missed` has the trees that have changed since the last update, by the
    /// index of the member that missed the blocks; a witness keeps no trees.
    ///
    /// # Panics
    /// If another update has not ended, or has failed.
    pub fn update(&mut self, record: &Record, missed: &[(usize, &Extents)]) -> Update {
        let (newest, mut trees, mut writes) = match self.state {
            // Another mirror's superblock with a higher number would count as the newest.
            State::Fresh => (Slot::Second, [TreeRef::empty(Slot::Second); MEMBERS_MAX], self.wipe()),
            State::Known { newest, trees } => (newest, trees, Vec::new()),
            State::Torn { newest, trees } => (newest, trees, vec![self.spoil(newest.other())]),
            State::Updating { .. } | State::Unknown => {
                panic!("the metadata of {} are {:?}: they have to be read first", self.own, self.state)
            }
        };
        let changed = if self.layout.is_witness() { &[] } else { missed };
        for &(member, blocks) in changed {
            let slot = trees[member].slot;
            if blocks.is_empty() {
                // Nothing is written: the next tree goes where this one would have been.
                trees[member] = TreeRef::empty(slot);
                continue;
            }
            let (named, bytes) = tree::encode(blocks, slot.other(), record.configuration.number);
            trees[member] = named;
            writes.push(self.write(self.layout.tree(member, named.slot, bytes.len()), bytes));
        }
        trees[record.configuration.members.len()..].fill(TreeRef::empty(Slot::First));
        let bytes = superblock::encode(self.own, record, &trees);
        let superblock = self.write(self.layout.superblock(newest.other()), bytes);
        self.state = State::Updating { newest, trees };
        Update { trees: writes, superblock }
    }

    /// An update is durable.
    ///
    /// # Panics
    /// If none had begun.
    pub fn written(&mut self) {
        let State::Updating { newest, trees } = self.state else {
            panic!("no update of the metadata of {} has begun", self.own)
        };
        self.state = State::Known { newest: newest.other(), trees };
    }

    /// An update has failed, or it is not known whether it is durable. The metadata have to be read
    /// again ([`super::Loader`]) before the next one.
    pub fn failed(&mut self) {
        self.state = State::Unknown;
    }

    /// Returns the writes after which the device holds no metadata. A flush makes them durable.
    pub fn wipe(&self) -> Vec<Write> {
        let wipe = |slot| self.write(self.layout.superblock(slot), vec![0; SUPERBLOCK_BYTES]);
        [Slot::First, Slot::Second].map(wipe).into()
    }

    /// Returns a write of ones over a torn superblock, which keeps it from ever being whole. The one
    /// that is written there next may be torn, too, and may have the same in the parts that the first one
    /// lacks: then the first one would be whole, and name trees that were overwritten meanwhile. If this
    /// write is torn as well, what is left is the torn superblock, or has a sector of ones, as no
    /// superblock has.
    fn spoil(&self, slot: Slot) -> Write {
        self.write(self.layout.superblock(slot), vec![0xff; SUPERBLOCK_BYTES])
    }

    /// Returns a write of whole blocks, the last of which zeroes fill.
    fn write(&self, at: Extent, mut bytes: Vec<u8>) -> Write {
        bytes.resize(at.count as usize * self.layout.block_size() as usize, 0);
        Write { at, bytes }
    }
}
