//! The disks of the world, which know for each block which write it holds and since when.

pub mod operations;

use std::collections::BTreeSet;

pub use self::operations::submit;
pub use crate::content::{fill, write_of};
pub use crate::state::store::{Action, Content, Fact, Origin, PendingIo, Request, Status, StoreConfig};
use crate::state::store::{Block, Store, Version};
use crate::world::{World, with};

/// Creates a store. Returns its number.
pub fn create(config: StoreConfig) -> u32 {
    with(|w| {
        let id = w.id() as u32;
        let from = w.stamp();
        let blocks = (0..config.num_blocks).map(|_| Block::empty(from)).collect();
        let store = Store {
            config,
            blocks,
            hung: false,
            stuck: BTreeSet::new(),
            held: Vec::new(),
            expected: Vec::new(),
        };
        w.stores.insert(id, store);
        id
    })
}

/// Announces that the next operation of this action and range, which carries no data, is from this
/// write of the user.
pub fn expect(store: u32, action: Action, offset: u64, count: u64, write: u64) {
    with(|w| {
        if let Some(store) = w.stores.get_mut(&store) {
            store.expected.retain(|(key, _)| *key != (action, offset, count));
            store.expected.push(((action, offset, count), write));
        }
    });
}

/// Returns each content that a block had between the stamps `from` and `to`, both included.
pub fn versions(store: u32, block: u64, from: u64, to: u64) -> Vec<Content> {
    with(|w| {
        let Some(block) = w.stores.get(&store).and_then(|s| s.blocks.get(block as usize)) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for version in block.versions.iter().rev() {
            if version.from <= to {
                found.push(version.content);
            }
            if version.from < from {
                break;
            }
        }
        found
    })
}

/// Returns the current content of a block.
pub fn content(store: u32, block: u64) -> Content {
    with(|w| w.stores[&store].blocks[block as usize].content())
}

/// Returns the current properties of a store.
pub fn config(w: &World, store: u32) -> Option<&StoreConfig> {
    w.stores.get(&store).map(|store| &store.config)
}

/// Returns the store's size, in blocks.
pub fn num_blocks(store: u32) -> u64 {
    with(|w| w.stores[&store].config.num_blocks)
}

/// Returns whether a store has operations in progress.
pub fn is_busy(store: u32) -> bool {
    with(|w| w.operations.values().any(|op| op.request.store == store))
}

/// Returns whether a store has operations of this process in progress.
pub fn is_busy_for(store: u32, process: u32) -> bool {
    with(|w| w.operations.values().any(|op| op.request.store == store && op.process == process))
}

/// Returns whether any store has operations of this process in progress.
pub fn has_business(w: &World, process: u32) -> bool {
    w.operations.values().any(|op| op.process == process)
}

/// Returns the events in stores since the last call.
pub fn take_facts() -> Vec<Fact> {
    with(|w| std::mem::take(&mut w.facts))
}

/// Makes a store hang, or continue.
pub fn set_hung(store: u32, hung: bool) {
    with(|w| {
        w.note(|| format!("store {store}: {}", if hung { "hangs" } else { "goes on" }));
        let Some(found) = w.stores.get_mut(&store) else { return };
        found.hung = hung;
        let held = if hung { Vec::new() } else { std::mem::take(&mut found.held) };
        for op in held {
            operations::resume(w, op);
        }
    });
}

/// Makes the operations that are in a store now hang, but no later ones; or lets them continue.
pub fn set_stuck(store: u32, stuck: bool) {
    with(|w| {
        let ops: BTreeSet<u64> = w
            .operations
            .iter()
            .filter(|(_, op)| stuck && op.request.store == store)
            .map(|(&id, _)| id)
            .collect();
        w.note(|| format!("store {store}: stuck are {ops:?}"));
        let Some(found) = w.stores.get_mut(&store) else { return };
        found.stuck = ops;
        let held = if stuck { Vec::new() } else { std::mem::take(&mut found.held) };
        // If the whole store hangs, the operations are held again.
        for op in held {
            operations::resume(w, op);
        }
    });
}

/// Fails all operations of a store at once.
pub fn fail_all(store: u32) {
    with(|w| operations::fail_all(w, store));
}

/// Changes how many of 1,000 operations fail.
pub fn set_errors(store: u32, errors: u64) {
    with(|w| {
        if let Some(store) = w.stores.get_mut(&store) {
            store.config.errors = errors;
        }
    });
}

/// Makes a store larger. The caller tells its users.
pub fn grow(store: u32, num_blocks: u64) {
    with(|w| {
        let from = w.stamp();
        if let Some(store) = w.stores.get_mut(&store) {
            store.config.num_blocks = num_blocks;
            store.blocks.resize_with(num_blocks as usize, || Block::empty(from));
        }
    });
}

/// Makes a store lose what was not flushed: each block returns to any of its versions since the
/// flush.
pub fn lose_cache(store: u32) {
    with(|w| {
        if !w.stores.get(&store).is_some_and(|s| s.config.write_cache) {
            return;
        }
        let seq = w.stamp();
        let count = w.stores[&store].blocks.len();
        for index in 0..count {
            let dice = w.rng.bits();
            let Some(block) = w.stores.get_mut(&store).map(|s| &mut s.blocks[index]) else { return };
            let last = block.versions.len() - 1;
            let keep = block.durable + (dice % (last - block.durable + 1) as u64) as usize;
            if keep == last {
                block.durable = last;
                continue;
            }
            let content = block.versions[keep].content;
            let lost: Vec<u64> = block.versions[keep + 1..].iter().map(|v| v.content.write).collect();
            block.versions.push(Version { from: seq, content });
            block.durable = block.versions.len() - 1;
            for write in lost.into_iter().filter(|&write| write != content.write) {
                w.note(|| format!("store {store}: block {index} loses write {write}, has {}", content.write));
                w.facts.push(Fact::Lost { seq, store, block: index as u64, write });
            }
        }
    });
}

/// Returns the blocks and writes that a crash could lose.
pub fn not_durable(store: u32) -> Vec<(u64, u64)> {
    with(|w| {
        let Some(store) = w.stores.get(&store) else { return Vec::new() };
        let of = |(at, block): (usize, &Block)| {
            block.versions[block.durable + 1..]
                .iter()
                .map(|v| (at as u64, v.content.write))
                .collect::<Vec<_>>()
        };
        store.blocks.iter().enumerate().flat_map(of).collect()
    })
}
