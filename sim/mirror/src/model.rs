//! What each block of the mirror may hold: a reference model of a disk with a volatile cache.
//!
//! Each of the user's writes has a number of its own, which is what the blocks on the members hold.
//! A write takes effect at one moment between its submission and its completion. From when each
//! write was submitted and completed, and from what was read, the model concludes which writes can
//! no longer be what a block holds: these are *gone*, and reading one is a violation. Reads while a
//! write is in progress may return it or not, in any order, as members carry it out at different
//! times. Times are stamps, which grow with each event.

use std::collections::BTreeMap;

/// The number of the first write of a user. Lower ones are of what the members held before the
/// mirror was created.
pub const FIRST_WRITE: u64 = 16;

/// A write of a block.
#[derive(Debug, Clone)]
struct Version {
    write: u64,
    submitted: u64,
    /// The stamp by which the write has taken effect, if it ever does.
    by: Option<u64>,
    /// The stamp since which nothing of the write is in progress.
    ended: Option<u64>,
    /// Whether the write has taken effect for certain: it was completed or read.
    certain: bool,
    /// The stamp since which no read may return the write.
    gone: Option<u64>,
    /// Whether the write was completed or read before the beginning of a flush that succeeded.
    flushed: bool,
}

/// What is wrong with a value that a block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// No write ever put it there.
    Alien,
    /// The write was overwritten, or seen to be. The second number is that of a write that the
    /// block may hold.
    Gone(u64, u64),
}

/// The reference model.
#[derive(Debug)]
pub struct Model {
    blocks: BTreeMap<u64, Vec<Version>>,
    /// What all blocks hold when the mirror is created.
    initial: u64,
}

impl Model {
    /// Returns the model of a mirror all of whose blocks hold `initial`.
    pub fn new(initial: u64) -> Model {
        Model { blocks: BTreeMap::new(), initial }
    }

    fn block(&mut self, block: u64) -> &mut Vec<Version> {
        let initial = self.initial;
        self.blocks.entry(block).or_insert_with(|| {
            vec![Version {
                write: initial,
                submitted: 0,
                by: Some(0),
                ended: Some(0),
                certain: true,
                gone: None,
                flushed: true,
            }]
        })
    }

    /// The user submits a write.
    pub fn submit(&mut self, write: u64, blocks: impl Iterator<Item = u64>, now: u64) {
        for block in blocks {
            let versions = self.block(block);
            versions.push(Version {
                write,
                submitted: now,
                by: None,
                ended: None,
                certain: false,
                gone: None,
                flushed: false,
            });
        }
    }

    /// A write was completed.
    pub fn complete(&mut self, write: u64, blocks: impl Iterator<Item = u64>, now: u64) {
        for block in blocks {
            let versions = self.block(block);
            let Some(at) = versions.iter().position(|version| version.write == write) else { continue };
            let version = &mut versions[at];
            version.by = Some(version.by.map_or(now, |by| by.min(now)));
            version.ended.get_or_insert(now);
            version.certain = true;
            let submitted = version.submitted;
            for other in versions.iter_mut() {
                if other.by.is_some_and(|by| by < submitted) && other.gone.is_none() {
                    other.gone = Some(now);
                }
            }
            prune(versions);
        }
    }

    /// A write has failed or its owner is gone, and nothing of it is in progress any more. It has
    /// taken effect by now, or never does.
    pub fn settle(&mut self, write: u64, blocks: impl Iterator<Item = u64>, now: u64) {
        for block in blocks {
            let versions = self.block(block);
            if let Some(version) = versions.iter_mut().find(|version| version.write == write) {
                version.by.get_or_insert(now);
                version.ended.get_or_insert(now);
            }
        }
    }

    /// Returns what is wrong with a value that a block holds or that a read returned which began at
    /// `since`.
    pub fn judge(&mut self, block: u64, value: u64, since: u64) -> Option<Wrong> {
        let versions = self.block(block);
        let Some(version) = versions.iter().find(|version| version.write == value) else {
            return Some(Wrong::Alien);
        };
        if version.gone.is_some_and(|gone| gone < since) {
            let newer = versions.iter().rev().find(|version| version.gone.is_none());
            return Some(Wrong::Gone(value, newer.map_or(0, |newer| newer.write)));
        }
        None
    }

    /// A read which began at `since` returned a value.
    pub fn read(&mut self, block: u64, value: u64, since: u64, now: u64) -> Option<Wrong> {
        if let Some(wrong) = self.judge(block, value, since) {
            return Some(wrong);
        }
        let versions = self.block(block);
        let found = versions.iter().find(|version| version.write == value)?;
        // Another member may not have it yet: reads decide once the write has ended.
        found.ended?;
        let submitted = found.submitted;
        // What has taken effect before the read began, or before this write did.
        let before = since.max(submitted);
        for version in versions {
            if version.write == value {
                version.by = Some(version.by.map_or(now, |by| by.min(now)));
                version.certain = true;
            } else if version.by.is_some_and(|by| by < before) && version.gone.is_none() {
                version.gone = Some(now);
            }
        }
        None
    }

    /// A flush which began at `since` has succeeded: it covers what was not in progress any more.
    pub fn flushed(&mut self, since: u64) {
        for versions in self.blocks.values_mut() {
            for version in versions {
                let is_past = |at: Option<u64>| at.is_some_and(|at| at < since);
                if version.certain && version.gone.is_none() && is_past(version.by) && is_past(version.ended)
                {
                    version.flushed = true;
                }
            }
        }
    }

    /// Returns whether no write of a block was in progress at a time.
    pub fn was_idle(&mut self, block: u64, at: u64) -> bool {
        let is_idle = |version: &Version| version.submitted > at || version.ended.is_some_and(|end| end < at);
        self.block(block).iter().all(is_idle)
    }

    /// Everything that no flush has covered may be lost, because every copy of it is. What a flush
    /// has covered stays.
    pub fn excuse(&mut self, block: u64, now: u64) {
        let versions = self.block(block);
        let newest = versions.iter().filter(|version| version.flushed).map(|version| version.submitted).max();
        let Some(newest) = newest else { return };
        for version in versions {
            if version.by.is_none_or(|by| by >= newest) {
                version.gone = None;
                version.by = version.by.map(|_| now);
                version.certain = false;
            }
        }
    }

    /// The operator has decided whose data count: a block holds this write, and nothing else.
    pub fn force(&mut self, block: u64, write: u64, now: u64) {
        let versions = self.block(block);
        if versions.iter().all(|version| version.write != write) {
            // It was forgotten, since it could never come back otherwise.
            let (by, ended) = (Some(now), Some(now));
            versions.push(Version {
                write,
                submitted: now,
                by,
                ended,
                certain: false,
                gone: None,
                flushed: false,
            });
        }
        for version in versions {
            let counts = version.write == write;
            version.gone = if counts { None } else { Some(version.gone.unwrap_or(now).min(now)) };
            version.by = Some(now);
            version.ended.get_or_insert(now);
            version.certain = false;
            version.flushed = counts && version.flushed;
        }
    }

    /// Returns all blocks that were ever written or read.
    pub fn known(&self) -> Vec<u64> {
        self.blocks.keys().copied().collect()
    }

    /// Returns a description of a block, for histories.
    pub fn describe(&self, block: u64) -> String {
        format!("{:?}", self.blocks.get(&block))
    }
}

/// Forgets the oldest writes that can never come back, so that a block does not become slow.
fn prune(versions: &mut Vec<Version>) {
    const MOST: usize = 48;
    if versions.len() < MOST {
        return;
    }
    let newest = versions.iter().filter(|version| version.flushed).map(|version| version.submitted).max();
    let Some(newest) = newest else { return };
    versions.retain(|version| version.gone.is_none() || version.by.is_none_or(|by| by >= newest));
}
