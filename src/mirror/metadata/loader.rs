//! How the metadata of a device are read.

use super::area::Area;
use super::error::MetadataError;
use super::layout::{Layout, Slot};
use super::record::Record;
use super::superblock::{self, Superblock};
use super::tree::{self, TREE_EXTENTS_MAX};
use crate::extents::{Extent, Extents};
use crate::ids::MemberId;

/// The next step of reading metadata.
#[derive(Debug)]
pub enum Load {
    /// Flush the device, and call [`Loader::flushed`].
    Flush,
    /// Read these blocks, and call [`Loader::supply`] with their content.
    Read(Extent),
    /// The metadata were read, or cannot be used. This is said once.
    Done(Result<Box<Loaded>, MetadataError>),
}

/// The metadata of a device.
#[derive(Debug)]
pub struct Loaded {
    /// The member or witness whose device it is.
    pub own: MemberId,
    /// What they say.
    pub record: Record,
    /// What each member missed, by its index. A witness has no trees: what it says is empty.
    pub missed: Vec<Extents>,
    /// Who writes them from now on.
    pub area: Area,
}

#[derive(Debug)]
enum State {
    Flush,
    Superblocks,
    /// The trees of the members from `missed.len()` on are to be read.
    Trees {
        superblock: Box<Superblock>,
        slot: Slot,
        /// Whether the other superblock is whole, too.
        has_both: bool,
        missed: Vec<Extents>,
    },
    Failed(MetadataError),
    Ended,
}

/// Reads the metadata of one device.
///
/// The device is flushed first. Its writer before may have died between the write of a superblock
/// and the flush. Read from the device's cache, that superblock would count as the newest, and the next
/// update would overwrite the other one, the only one that outlives a power loss.
#[derive(Debug)]
pub struct Loader {
    layout: Layout,
    state: State,
}

impl Loader {
    /// Begins to read the metadata of a device.
    pub fn new(layout: Layout) -> Loader {
        Loader { layout, state: State::Flush }
    }

    /// Returns the next step.
    ///
    /// # Panics
    /// If the last step has been returned before.
    pub fn step(&mut self) -> Load {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Flush => {
                self.state = State::Flush;
                Load::Flush
            }
            State::Superblocks => {
                self.state = State::Superblocks;
                Load::Read(self.layout.superblocks())
            }
            State::Trees { superblock, slot, has_both, mut missed } => {
                let members = superblock.record.configuration.members.len();
                while missed.len() < members && superblock.trees[missed.len()].count == 0 {
                    missed.push(Extents::new(TREE_EXTENTS_MAX));
                }
                if missed.len() < members {
                    let named = superblock.trees[missed.len()];
                    let at = self.layout.tree(missed.len(), named.slot, named.bytes());
                    self.state = State::Trees { superblock, slot, has_both, missed };
                    return Load::Read(at);
                }
                let Superblock { own, record, trees } = *superblock;
                let area = Area::found(self.layout, own, slot, has_both, trees);
                Load::Done(Ok(Box::new(Loaded { own, record, missed, area })))
            }
            State::Failed(error) => Load::Done(Err(error)),
            State::Ended => panic!("the metadata were read to the end"),
        }
    }

    /// The device was flushed.
    pub fn flushed(&mut self) {
        if matches!(self.state, State::Flush) {
            self.state = State::Superblocks;
        }
    }

    /// The blocks were read for which [`Load::Read`] asked.
    pub fn supply(&mut self, bytes: &[u8]) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Superblocks => match self.newest(bytes) {
                Ok((slot, superblock, has_both)) => {
                    State::Trees { superblock: Box::new(superblock), slot, has_both, missed: Vec::new() }
                }
                Err(error) => State::Failed(error),
            },
            State::Trees { superblock, slot, has_both, mut missed } => {
                let member = missed.len();
                match tree::decode(bytes, &superblock.trees[member], superblock.record.blocks) {
                    Some(tree) => {
                        missed.push(tree);
                        State::Trees { superblock, slot, has_both, missed }
                    }
                    None => State::Failed(MetadataError::Tree(member)),
                }
            }
            other => other,
        };
    }

    /// Returns the newest of the superblocks that are whole, and whether both are. If none is, the error is that of the one that
    /// is a superblock at all.
    fn newest(&self, bytes: &[u8]) -> Result<(Slot, Superblock, bool), MetadataError> {
        let read = |slot| {
            let bytes = bytes.get(Layout::within_superblocks(slot)..).unwrap_or_default();
            superblock::decode(bytes, &self.layout)
        };
        match (read(Slot::First), read(Slot::Second)) {
            (Ok(first), Ok(second)) if number(&second) > number(&first) => Ok((Slot::Second, second, true)),
            (Ok(first), other) => Ok((Slot::First, first, other.is_ok())),
            (Err(_), Ok(second)) => Ok((Slot::Second, second, false)),
            (Err(MetadataError::Nothing), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }
}

fn number(superblock: &Superblock) -> u64 {
    superblock.record.configuration.number
}

#[cfg(test)]
mod tests {
    use super::super::area::{Update, Write};
    use super::super::testing::*;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A device with a volatile cache, as far as its metadata go.
    #[derive(Clone)]
    struct Disk {
        layout: Layout,
        /// The sectors of 512 bytes that were flushed, and those that are only in the cache.
        durable: BTreeMap<u64, [u8; 512]>,
        cache: Vec<(u64, [u8; 512])>,
    }

    impl Disk {
        fn new(layout: Layout) -> Disk {
            Disk { layout, durable: BTreeMap::new(), cache: Vec::new() }
        }

        fn sector(&self, block: u64) -> u64 {
            block * u64::from(self.layout.block_size() / 512)
        }

        fn write(&mut self, write: &Write) {
            assert_eq!(write.bytes.len() as u64, write.at.count * u64::from(self.layout.block_size()));
            for (sector, bytes) in (self.sector(write.at.start)..).zip(write.bytes.as_chunks().0) {
                self.cache.push((sector, *bytes));
            }
        }

        fn flush(&mut self) {
            self.durable.extend(self.cache.drain(..));
        }

        /// The power fails: of the cache, the sectors remain that `keep` says, in any combination.
        fn power_loss(&mut self, mut keep: impl FnMut() -> bool) {
            let kept: Vec<_> = self.cache.drain(..).filter(|_| keep()).collect();
            self.durable.extend(kept);
        }

        fn read(&self, at: Extent) -> Vec<u8> {
            let cached =
                |sector| self.cache.iter().rev().find(|(at, _)| *at == sector).map(|(_, bytes)| *bytes);
            let content =
                |sector| cached(sector).or_else(|| self.durable.get(&sector).copied()).unwrap_or([0; 512]);
            (self.sector(at.start)..self.sector(at.end())).flat_map(content).collect()
        }

        fn load(&mut self) -> Result<Box<Loaded>, MetadataError> {
            let mut loader = Loader::new(self.layout);
            loop {
                match loader.step() {
                    Load::Flush => {
                        self.flush();
                        loader.flushed();
                    }
                    Load::Read(at) => loader.supply(&self.read(at)),
                    Load::Done(loaded) => return loaded,
                }
            }
        }
    }

    fn tree(ranges: &[(u64, u64)]) -> Extents {
        let mut tree = Extents::new(TREE_EXTENTS_MAX);
        ranges.iter().for_each(|&(start, count)| tree.insert(Extent::new(start, count)));
        tree
    }

    fn carry_out(disk: &mut Disk, update: &Update) {
        update.trees.iter().for_each(|write| disk.write(write));
        disk.flush();
        disk.write(&update.superblock);
        disk.flush();
    }

    #[test]
    fn what_was_written_is_read() {
        let (layout, mut record) = example();
        let mut disk = Disk::new(layout);
        assert_eq!(disk.load().err(), Some(MetadataError::Nothing));
        let mut area = Area::fresh(layout, MemberId(1));
        let missed = tree(&[(5, 2), (100, 1)]);
        let update = area.update(&record, &[(1, &missed)]);
        assert_eq!((update.trees.len(), update.superblock.bytes.len()), (3, 4096));
        carry_out(&mut disk, &update);
        area.written();
        record.configuration.number += 1;
        record.hot.clear();
        let update = area.update(&record, &[]);
        assert!(update.trees.is_empty());
        carry_out(&mut disk, &update);
        let loaded = disk.load().expect("whole");
        assert_eq!((loaded.own, &loaded.record), (MemberId(1), &record));
        assert_eq!(loaded.missed, [tree(&[]), missed]);
        let mut area = loaded.area;
        let update = area.update(&record, &[(1, &tree(&[]))]);
        assert!(update.trees.is_empty(), "an empty tree is not written");
        carry_out(&mut disk, &update);
        area.wipe().iter().for_each(|write| disk.write(write));
        assert_eq!(disk.load().err(), Some(MetadataError::Nothing));
    }

    #[test]
    fn a_witness_has_no_trees() {
        let (_, record) = example();
        let layout = Layout::witness(2048, 512).expect("there is room");
        let mut disk = Disk::new(layout);
        let update = Area::fresh(layout, MemberId(99)).update(&record, &[(1, &tree(&[(1, 1)]))]);
        assert_eq!(update.trees.len(), 2, "the zeroes of both superblocks");
        carry_out(&mut disk, &update);
        let loaded = disk.load().expect("whole");
        assert_eq!((loaded.record, loaded.missed), (record, vec![tree(&[]); 2]));
    }

    #[test]
    fn another_mirror_is_overwritten_before_the_first_record() {
        let (layout, mut record) = example();
        record.configuration.accepted = 1;
        let mut disk = Disk::new(layout);
        let mut area = Area::fresh(layout, MemberId(1));
        for number in [1000, 1001] {
            record.configuration.number = number;
            carry_out(&mut disk, &area.update(&record, &[]));
            area.written();
        }
        record.configuration.number = 1;
        let update = Area::fresh(layout, MemberId(1)).update(&record, &[]);
        let mut half = disk.clone();
        update.trees.iter().for_each(|write| half.write(write));
        half.flush();
        assert_eq!(half.load().err(), Some(MetadataError::Nothing), "neither of both");
        carry_out(&mut disk, &update);
        assert_eq!(disk.load().expect("whole").record, record);
    }

    #[test]
    fn a_damaged_tree_is_not_passed_over() {
        let (layout, mut record) = example();
        record.configuration.accepted = 1;
        let mut disk = Disk::new(layout);
        let mut area = Area::fresh(layout, MemberId(1));
        for number in [1, 2] {
            record.configuration.number = number;
            let update = area.update(&record, &[(1, &tree(&[(number, 1)]))]);
            carry_out(&mut disk, &update);
            area.written();
            if let Some(Write { at, mut bytes }) = update.trees.last().filter(|_| number == 2).cloned() {
                bytes[20] ^= 1;
                disk.write(&Write { at, bytes });
            }
        }
        assert_eq!(disk.load().err(), Some(MetadataError::Tree(1)));
    }

    #[test]
    #[should_panic(expected = "they have to be read first")]
    fn what_failed_has_to_be_read_again() {
        let (layout, record) = example();
        let mut area = Area::fresh(layout, MemberId(1));
        area.update(&record, &[]);
        area.failed();
        area.update(&record, &[]);
    }

    #[test]
    fn the_error_tells_of_the_superblock_that_is_one() {
        let (layout, mut record) = example();
        let mut disk = Disk::new(layout);
        let mut area = Area::fresh(layout, MemberId(1));
        let mut update = area.update(&record, &[]);
        update.superblock.bytes[100] ^= 1;
        carry_out(&mut disk, &update);
        assert!(matches!(disk.load(), Err(MetadataError::Crc { .. })));
        area.written();
        record.configuration.number += 1;
        carry_out(&mut disk, &area.update(&record, &[]));
        assert!(disk.load().is_ok(), "the other one is whole");
    }

    #[test]
    fn a_torn_superblock_does_not_become_whole_by_the_next_one() {
        let (layout, mut record) = example();
        let mut disk = Disk::new(layout);
        let mut area = Area::fresh(layout, MemberId(1));
        for number in [0x0109, 0x010a] {
            record.configuration.number = number;
            carry_out(&mut disk, &area.update(&record, &[(1, &tree(&[(number, 1)]))]));
            area.written();
        }
        let durable = record.clone();
        record.configuration.number += 1;
        record.hot.clear();
        // Of the first superblock all is kept but the sector of the hot regions; of the second one, that
        // sector alone.
        for (start, is_kept) in [(1, false), (2, true)] {
            let update = area.update(&record, &[(1, &tree(&[(start, 1)]))]);
            update.trees.iter().for_each(|write| disk.write(write));
            disk.flush();
            disk.write(&update.superblock);
            let mut sector = 0;
            disk.power_loss(|| {
                sector += 1;
                (sector - 1 == 1504 / 512) == is_kept
            });
            let loaded = disk.load().expect("the one before is whole");
            assert_eq!((&loaded.record, &loaded.missed[1]), (&durable, &tree(&[(0x010a, 1)])));
            area = loaded.area;
        }
    }

    #[derive(Debug, Clone)]
    struct Change {
        /// The trees that change, with a range for each.
        trees: Vec<(usize, u64)>,
        hot: Vec<u16>,
        /// The step before which the owner dies: the trees, the flush, the superblock, the flush, or none.
        dies: usize,
        /// Whether the power of the device fails then, or only the owner dies.
        is_power_loss: bool,
        seed: u64,
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let trees = proptest::collection::vec((0usize..2, 0u64..40), 0..3);
        // Often the same, so that parts of two superblocks are.
        let hot = prop_oneof![Just([7u16].into()), proptest::collection::btree_set(0u16..4096, 0..40),];
        let dies = prop_oneof![0usize..12, Just(3)];
        (trees, hot, dies, any::<bool>(), any::<u64>()).prop_map(|(trees, hot, dies, is_power_loss, seed)| {
            Change { trees, hot: hot.into_iter().collect(), dies, is_power_loss, seed }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Owners die at any step, and caches are lost in any combination of sectors. What is read is the
        /// last record that was durable, or the one that was being written; never a mixture, and
        /// never nothing.
        #[test]
        fn what_is_read_is_one_record(changes in proptest::collection::vec(any_change(), 1..25)) {
            let (layout, mut record) = example();
            let mut disk = Disk::new(layout);
            let mut area = Area::fresh(layout, MemberId(1));
            let mut missed = vec![tree(&[]), tree(&[])];
            carry_out(&mut disk, &area.update(&record, &[]));
            area.written();
            let mut durable = (record.clone(), missed.clone());
            for change in changes {
                record.configuration.number += 1;
                record.hot = change.hot;
                let mut changed = Vec::new();
                for (member, start) in change.trees {
                    if start == 0 { missed[member].clear() } else { missed[member].insert(Extent::new(start * 100, 50)) }
                    changed.push(member);
                }
                changed.sort_unstable();
                changed.dedup();
                let changed: Vec<_> = changed.into_iter().map(|member| (member, &missed[member])).collect();
                let update = area.update(&record, &changed);
                let steps: [&dyn Fn(&mut Disk); 4] = [
                    &|disk| update.trees.iter().for_each(|write| disk.write(write)),
                    &Disk::flush,
                    &|disk| disk.write(&update.superblock),
                    &Disk::flush,
                ];
                steps.iter().take(change.dies).for_each(|step| step(&mut disk));
                let attempted = (record.clone(), missed.clone());
                if change.dies >= steps.len() {
                    area.written();
                    durable = attempted;
                    continue;
                }
                area.failed();
                let mut seed = change.seed;
                let keep = || {
                    // xorshift64: any bits will do.
                    seed |= 1;
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed & 64 != 0
                };
                if change.is_power_loss {
                    disk.power_loss(keep);
                }
                let loaded = disk.load();
                prop_assert!(loaded.is_ok(), "{:?}", loaded.err());
                let loaded = *loaded.expect("whole");
                let found = (loaded.record, loaded.missed);
                prop_assert!(found == durable || found == attempted);
                (record, missed) = found.clone();
                durable = found;
                area = loaded.area;
            }
            // What was durable at the end survives a power loss.
            disk.power_loss(|| false);
            let loaded = disk.load().expect("whole");
            prop_assert_eq!((loaded.record, loaded.missed), durable);
        }

        /// Whatever is on the device, reading it ends, and asks for the metadata's blocks only.
        #[test]
        fn garbage_is_refused(
            (layout, own, record) in any_record(), trees in any_trees(),
            fill in proptest::collection::vec(any::<u8>(), 1..64), is_second: bool,
        ) {
            let mut named = trees;
            named[record.configuration.members.len()..].fill(tree::TreeRef::empty(Slot::First));
            let bytes = superblock::encode(own, &record, &named);
            let mut loader = Loader::new(layout);
            let mut reads = 0;
            loop {
                match loader.step() {
                    Load::Flush => loader.flushed(),
                    Load::Read(at) => {
                        prop_assert!(at.start >= layout.data_blocks() && at.end() <= layout.device_blocks());
                        let len = at.count as usize * layout.block_size() as usize;
                        let mut content: Vec<u8> = fill.iter().copied().cycle().take(len).collect();
                        if reads == 0 {
                            let start = if is_second { len / 2 } else { 0 };
                            content[start..start + bytes.len()].copy_from_slice(&bytes);
                        }
                        reads += 1;
                        loader.supply(&content);
                    }
                    Load::Done(result) => {
                        let has_trees = named.iter().any(|tree| tree.count > 0);
                        prop_assert_eq!(result.is_err(), has_trees);
                        break;
                    }
                }
            }
        }
    }
}
