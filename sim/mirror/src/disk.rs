//! The medium of a member: blocks, a cache that a power loss forgets, and writes that a power loss
//! tears.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use world::rng::Rng;

/// The unit that a power loss leaves whole, in bytes: a sector of a disk with 512-byte sectors.
const SECTOR: usize = 512;

/// What a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The data of the user's write with this number, see [`crate::model`].
    Write(u64),
    /// The mirror's own bytes.
    Bytes(Rc<[u8]>),
}

impl Content {
    /// Fills `bytes` with what a read of the block returns.
    pub fn fill(&self, bytes: &mut [u8]) {
        match self {
            Content::Write(write) => {
                for chunk in bytes.chunks_exact_mut(8) {
                    chunk.copy_from_slice(&write.to_le_bytes());
                }
            }
            Content::Bytes(from) => bytes.copy_from_slice(from),
        }
    }
}

/// A block: its versions since the last flush. The last one is current; a power loss leaves any.
#[derive(Debug)]
struct Block {
    versions: Vec<Content>,
}

/// The medium of a member.
#[derive(Debug)]
pub struct Disk {
    /// Bytes in a block.
    pub block_size: u32,
    /// The number of blocks.
    pub num_blocks: u64,
    /// Whether writes are volatile until the next flush.
    cache: bool,
    /// What a block holds that was never written.
    initial: Content,
    blocks: BTreeMap<u64, Block>,
    volatile: BTreeSet<u64>,
}

impl Disk {
    /// Returns a disk, all of whose blocks hold `initial`.
    pub fn new(block_size: u32, num_blocks: u64, cache: bool, initial: Content) -> Disk {
        let (blocks, volatile) = (BTreeMap::new(), BTreeSet::new());
        Disk { block_size, num_blocks, cache, initial, blocks, volatile }
    }

    /// Returns what a block holds.
    pub fn content(&self, block: u64) -> &Content {
        self.blocks.get(&block).and_then(|found| found.versions.last()).unwrap_or(&self.initial)
    }

    /// Returns the number of the user's write that a block holds, or `None` if the block holds
    /// bytes of the mirror's own.
    pub fn write_at(&self, block: u64) -> Option<u64> {
        match self.content(block) {
            Content::Write(write) => Some(*write),
            Content::Bytes(_) => None,
        }
    }

    /// Returns the numbers of the users' writes that a power loss may leave in a block.
    pub fn possible(&self, block: u64) -> Vec<u64> {
        let initial = std::slice::from_ref(&self.initial);
        let versions = self.blocks.get(&block).map_or(initial, |found| &found.versions);
        let write = |content: &Content| match content {
            Content::Write(write) => Some(*write),
            Content::Bytes(_) => None,
        };
        versions.iter().filter_map(write).collect()
    }

    /// Returns whether a power loss may change what a block holds.
    pub fn is_volatile(&self, block: u64) -> bool {
        self.volatile.contains(&block)
    }

    /// Returns the blocks that were ever written.
    pub fn written(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    /// Writes a block.
    pub fn write(&mut self, block: u64, content: Content) {
        let initial = &self.initial;
        let found = self.blocks.entry(block).or_insert_with(|| Block { versions: vec![initial.clone()] });
        if self.cache {
            found.versions.push(content);
            self.volatile.insert(block);
        } else {
            found.versions = vec![content];
        }
    }

    /// Changes a block for good, behind everybody's back.
    pub fn decay(&mut self, block: u64, content: Content) {
        self.volatile.remove(&block);
        self.blocks.insert(block, Block { versions: vec![content] });
    }

    /// Makes everything durable.
    pub fn flush(&mut self) {
        for block in std::mem::take(&mut self.volatile) {
            if let Some(found) = self.blocks.get_mut(&block) {
                found.versions.drain(..found.versions.len() - 1);
            }
        }
    }

    /// Forgets a part of what was not flushed: each block is left with one of its versions, and
    /// some of the mirror's own blocks with a mixture of two. Returns the blocks that changed.
    pub fn lose_power(&mut self, rng: &mut Rng) -> Vec<u64> {
        // Mostly one end of what is possible, for all blocks alike; it is what disks do, and it
        // makes members differ by more.
        let habit = rng.below(3);
        let mut changed = Vec::new();
        for block in std::mem::take(&mut self.volatile) {
            let Some(found) = self.blocks.get_mut(&block) else { continue };
            let last = found.versions.len() - 1;
            let kept = match habit {
                0 => 0,
                1 => rng.index(last + 1),
                _ if rng.chance(800) => last,
                _ => 0,
            };
            let mut content = found.versions[kept].clone();
            if let (Content::Bytes(old), Some(Content::Bytes(new))) = (&content, found.versions.get(kept + 1))
                && rng.chance(300)
            {
                content = Content::Bytes(torn(old, new, rng));
            }
            if kept < last {
                changed.push(block);
            }
            found.versions = vec![content];
        }
        changed
    }

    /// Executes a part of a write of the mirror's own bytes, as happens when the power is lost in
    /// the middle.
    pub fn write_torn(&mut self, block: u64, new: &Rc<[u8]>, rng: &mut Rng) {
        let mut old = vec![0; self.block_size as usize];
        self.content(block).fill(&mut old);
        self.write(block, Content::Bytes(torn(&old, new, rng)));
    }
}

/// Returns a mixture of two contents of a block.
fn torn(old: &[u8], new: &[u8], rng: &mut Rng) -> Rc<[u8]> {
    let mut bytes = old.to_vec();
    for (to, from) in bytes.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
        if rng.chance(500) {
            to.copy_from_slice(from);
        }
    }
    bytes.into()
}
