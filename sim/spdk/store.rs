//! The devices behind the targets' bdevs. They know of each block which write it is from, and when.
//!
//! A block's bytes are a function of the number of the user's write and of the block, so a store keeps numbers
//! only, and sees at once when bytes are not what one write wrote to one block.

use std::collections::BTreeSet;

use crate::process;
use crate::promise;
use crate::user::Record;
use crate::world::{Event, World, with};
use spdk_contract::bdev::IoTypes;
use spdk_contract::io::IoKind;
use spdk_contract::io::IoStatus;

/// What a store is like.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its identity.
    pub uuid: [u8; 16],
    /// Bytes.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Writes may be lost in a crash until they are flushed.
    pub write_cache: bool,
    /// It is part of the target's process, as SPDK's delay bdev is: it stops and dies with it. Else it goes on.
    pub in_process: bool,
    /// How long an I/O takes, µs: from, to.
    pub latency_us: (u64, u64),
    /// Of 1000 I/Os, how many fail.
    pub errors: u64,
    /// Whether a reset ends also I/O that hangs.
    pub reset_works: bool,
    /// What it can do.
    pub supports: IoTypes,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The user's write that it is from; 0: nobody has written.
    pub write: u64,
    /// It reads as zeroes.
    pub zero: bool,
}

/// What a block held from a moment on.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// From when on, a stamp of the world.
    pub from: u64,
    /// What.
    pub content: Content,
}

pub(crate) struct Block {
    versions: Vec<Version>,
    /// The version that survives a crash.
    durable: usize,
}

pub(crate) struct Store {
    pub config: StoreConfig,
    pub blocks: Vec<Block>,
    hung: bool,
    /// Operations that hang although the store goes on.
    stuck: BTreeSet<u64>,
    held: Vec<u64>,
    /// Writes without data, by kind and range: which of the user's they are.
    zeroes: Vec<((IoKind, u64, u64), u64)>,
}

/// An I/O object of the code under test, on its way.
pub(crate) trait PendingIo {
    fn data(&mut self) -> &mut [u8];
    fn done(self: Box<Self>, status: IoStatus);
}

pub(crate) struct Op {
    pub process: u32,
    thread: u64,
    store: u32,
    kind: IoKind,
    offset: u64,
    count: u64,
    io: Option<Box<dyn PendingIo>>,
    status: IoStatus,
    executed: bool,
    /// Of the user's writes, which it is; 0: none.
    write: u64,
}

/// An operation that the backend is given.
pub(crate) struct Request {
    pub store: u32,
    pub kind: IoKind,
    pub offset: u64,
    pub count: u64,
    pub read_only: bool,
}

const EMPTY: Content = Content { write: 0, zero: true };

fn word(write: u64, block: u64, index: u64) -> u64 {
    if index == 0 { write } else { (write ^ block << 40 ^ index << 52).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

/// Fills the bytes of a block.
pub fn fill(bytes: &mut [u8], block: u64, content: Content) {
    if content.zero {
        return bytes.fill(0);
    }
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&word(content.write, block, index as u64).to_le_bytes());
    }
}

/// The write that a block's bytes are from; 0 for zeroes; `None` for what nobody wrote there.
pub fn write_of(bytes: &[u8], block: u64) -> Option<u64> {
    let first = u64::from_le_bytes(bytes.first_chunk().copied()?);
    let fits = |(index, chunk): (usize, &[u8])| {
        let expected = if first == 0 { 0 } else { word(first, block, index as u64) };
        chunk == expected.to_le_bytes()
    };
    bytes.chunks_exact(8).enumerate().all(fits).then_some(first)
}

/// Makes a store.
pub fn create(config: StoreConfig) -> u32 {
    with(|w| {
        let id = w.id() as u32;
        let from = w.stamp();
        let block = || Block { versions: vec![Version { from, content: EMPTY }], durable: 0 };
        let blocks = (0..config.num_blocks).map(|_| block()).collect();
        let store = Store {
            config,
            blocks,
            hung: false,
            stuck: BTreeSet::new(),
            held: Vec::new(),
            zeroes: Vec::new(),
        };
        w.stores.insert(id, store);
        id
    })
}

/// A process has a bdev of this name with that store behind it.
pub fn give(store: u32, process: u32, name: &str) {
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.bdevs.insert(name.to_owned(), store);
        }
    });
}

/// The next I/O of this kind and range, which carries no data, is this write of the user's.
pub fn expect(store: u32, kind: IoKind, offset: u64, count: u64, write: u64) {
    with(|w| {
        if let Some(store) = w.stores.get_mut(&store) {
            store.zeroes.retain(|(key, _)| *key != (kind, offset, count));
            store.zeroes.push(((kind, offset, count), write));
        }
    });
}

/// What a block held at some moment from `from` to `to`, both included.
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

/// What a block holds.
pub fn content(store: u32, block: u64) -> Content {
    with(|w| w.stores[&store].blocks[block as usize].versions.last().map_or(EMPTY, |v| v.content))
}

/// The store's size, in blocks.
pub fn num_blocks(store: u32) -> u64 {
    with(|w| w.stores[&store].config.num_blocks)
}

/// Whether anything is under way in a store.
pub fn is_busy(store: u32) -> bool {
    with(|w| w.ops.values().any(|op| op.store == store))
}

/// Whether anything of this process is under way in a store.
pub fn is_busy_for(store: u32, process: u32) -> bool {
    with(|w| w.ops.values().any(|op| op.store == store && op.process == process))
}

/// Lets the store hang, or go on.
pub fn set_hung(store: u32, hung: bool) {
    with(|w| {
        w.note(|| format!("store {store}: {}", if hung { "hangs" } else { "goes on" }));
        let Some(found) = w.stores.get_mut(&store) else { return };
        found.hung = hung;
        let held = if hung { Vec::new() } else { std::mem::take(&mut found.held) };
        for op in held {
            resume(w, op);
        }
    });
}

/// Lets what is in the store now hang, while what comes later goes on; or lets it go on too.
pub fn set_stuck(store: u32, stuck: bool) {
    with(|w| {
        let ops: BTreeSet<u64> =
            w.ops.iter().filter(|(_, op)| stuck && op.store == store).map(|(&id, _)| id).collect();
        w.note(|| format!("store {store}: stuck are {ops:?}"));
        let Some(found) = w.stores.get_mut(&store) else { return };
        found.stuck = ops;
        let held = if stuck { Vec::new() } else { std::mem::take(&mut found.held) };
        // If the store hangs they are held again.
        for op in held {
            resume(w, op);
        }
    });
}

/// Changes how many of 1000 I/Os fail.
pub fn set_errors(store: u32, errors: u64) {
    with(|w| {
        if let Some(store) = w.stores.get_mut(&store) {
            store.config.errors = errors;
        }
    });
}

/// Makes the store larger. The bdevs' users have to be told.
pub fn grow(store: u32, num_blocks: u64) {
    with(|w| {
        let from = w.stamp();
        if let Some(store) = w.stores.get_mut(&store) {
            store.config.num_blocks = num_blocks;
            let block = || Block { versions: vec![Version { from, content: EMPTY }], durable: 0 };
            store.blocks.resize_with(num_blocks as usize, block);
        }
    });
}

/// The store forgets what was not flushed: of each block any of the versions since.
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
                w.record(Record::Lost { seq, store, block: index as u64, write });
            }
        }
    });
}

/// The code under test gives the store an operation.
pub(crate) fn submit(w: &mut World, request: Request, mut io: Box<dyn PendingIo>) {
    let Some(thread) = w.current else { return w.trash.push(Box::new(io)) };
    let Some(process) = w.current_process() else { return w.trash.push(Box::new(io)) };
    let Request { store, kind, offset, count, read_only } = request;
    w.active();
    let alive = crate::net::is_alive(w, process);
    let seq = w.stamp();
    let Some(found) = w.stores.get(&store).filter(|_| alive) else {
        finish(w, thread, io, IoStatus::Failed);
        return;
    };
    let modifies =
        matches!(kind, IoKind::Write | IoKind::Unmap | IoKind::WriteZeroes | IoKind::CompareAndWrite);
    let has_range = modifies || kind == IoKind::Read;
    let is_outside = kind != IoKind::Reset && offset + count > found.config.num_blocks;
    if is_outside || has_range && count == 0 || read_only && modifies {
        finish(w, thread, io, IoStatus::Failed);
        return;
    }
    let write = if modifies { identify(w, store, kind, offset, count, io.data()) } else { 0 };
    let config = &w.stores[&store].config;
    let (low, high) = config.latency_us;
    let errors = config.errors;
    let latency = w.rng.range(low, high);
    let executes = w.rng.range(0, latency);
    let status = if w.rng.chance(errors) { IoStatus::Failed } else { IoStatus::Success };
    let id = w.id();
    w.note(|| format!("store {store}: op {id} {kind:?} {offset}+{count} write {write} for {latency} us"));
    w.record(Record::Handed { seq, process, store, kind, offset, count, write });
    let op = Op { process, thread, store, kind, offset, count, io: Some(io), status, executed: false, write };
    w.ops.insert(id, op);
    let now = w.now;
    w.at(now + executes, Event::Execute(id));
    w.at(now + latency, Event::Done(id));
}

/// Which of the user's writes an operation is.
fn identify(w: &mut World, store: u32, kind: IoKind, offset: u64, count: u64, data: &[u8]) -> u64 {
    let found = &w.stores[&store];
    let size = found.config.block_size as usize;
    match kind {
        IoKind::Write | IoKind::CompareAndWrite => {
            let half = if kind == IoKind::Write { 0 } else { count as usize * size };
            let new = &data[half..];
            let mut blocks =
                new.chunks_exact(size).zip(offset..).map(|(bytes, block)| write_of(bytes, block));
            let first = blocks.next().flatten().unwrap_or(0);
            if first == 0 || blocks.any(|other| other != Some(first)) {
                w.violation(
                    promise::DATA,
                    format!("what is written to {offset}+{count} is not one write's data"),
                );
            }
            first
        }
        _ => {
            let found = found.zeroes.iter().rev().find(|(key, _)| *key == (kind, offset, count)).map(|z| z.1);
            if found.is_none() {
                w.violation(promise::UNASKED, format!("nobody asked for {kind:?} of {offset}+{count}"));
            }
            found.unwrap_or(0)
        }
    }
}

/// Whether an operation can't go on now; if so it is kept for later.
fn hold(w: &mut World, id: u64) -> bool {
    let Some(op) = w.ops.get(&id) else { return true };
    let (process, store) = (op.process, op.store);
    let reset = op.kind == IoKind::Reset;
    // Of a dead process: the world's promise is that this ends before its leases do.
    let orphan = op.thread == 0;
    let Some(found) = w.stores.get_mut(&store) else { return true };
    let hangs = found.hung || found.stuck.contains(&id);
    if hangs && !orphan && !(reset && found.config.reset_works) {
        found.held.push(id);
        return true;
    }
    let in_process = found.config.in_process;
    let Some(owner) = w.processes.get_mut(&process) else { return false };
    if in_process && owner.stopped && owner.alive {
        owner.held.push(id);
        return true;
    }
    false
}

/// An operation that was kept goes on.
pub(crate) fn resume(w: &mut World, id: u64) {
    let most = w.rng.pick(&[500, 5000, 20_000]);
    let at = w.now + w.rng.below(most);
    if w.ops.get(&id).is_some_and(|op| !op.executed) {
        w.at(at, Event::Execute(id));
    }
    w.at(at, Event::Done(id));
}

/// The moment at which an operation takes effect.
pub(crate) fn execute(w: &mut World, id: u64) {
    if w.ops.get(&id).is_none_or(|op| op.executed) || hold(w, id) {
        return;
    }
    let half_done = w.rng.bits();
    let seq = w.stamp();
    let Some(op) = w.ops.get_mut(&id) else { return };
    op.executed = true;
    let (store_id, kind, offset, write) = (op.store, op.kind, op.offset, op.write);
    let mut count = op.count;
    if op.status != IoStatus::Success {
        // An error says nothing of what was done: all, a part, nothing.
        count = if kind == IoKind::CompareAndWrite { 0 } else { half_done % (count + 1) };
    }
    let process = op.process;
    let Some(store) = w.stores.get_mut(&store_id) else { return };
    let size = store.config.block_size as usize;
    let range = offset as usize..(offset + count) as usize;
    let data = op.io.as_mut().map(|io| io.data());
    match (kind, data) {
        (IoKind::Read, Some(data)) => {
            for (block, bytes) in range.zip(data.chunks_exact_mut(size)) {
                let content = store.blocks[block].versions.last().map_or(EMPTY, |v| v.content);
                fill(bytes, block as u64, content);
            }
            return;
        }
        (IoKind::Flush, _) => {
            store.blocks[range].iter_mut().for_each(|block| block.durable = block.versions.len() - 1);
            return;
        }
        (IoKind::Reset, _) => return reset(w, id),
        (IoKind::CompareAndWrite, Some(data)) => {
            let mut same = true;
            for (block, bytes) in range.clone().zip(data.chunks_exact(size)) {
                let content = store.blocks[block].versions.last().map_or(EMPTY, |v| v.content);
                let there = if content.zero { 0 } else { content.write };
                same &= write_of(bytes, block as u64) == Some(there);
            }
            if !same {
                op.status = IoStatus::Miscompare;
                w.record(Record::Executed { seq, process, store: store_id, kind, offset, count: 0, write });
                w.note(|| format!("store {store_id}: op {id} write {write} miscompares"));
                return;
            }
        }
        _ => {}
    }
    let zero = matches!(kind, IoKind::Unmap | IoKind::WriteZeroes);
    let durable = !store.config.write_cache;
    for block in range {
        let block = &mut store.blocks[block];
        block.versions.push(Version { from: seq, content: Content { write, zero } });
        if durable {
            block.durable = block.versions.len() - 1;
        }
    }
    w.note(|| format!("store {store_id}: op {id} executed, {offset}+{count} has write {write}"));
    w.record(Record::Executed { seq, process, store: store_id, kind, offset, count, write });
}

/// A reset ends what else the process has outstanding there.
fn reset(w: &mut World, id: u64) {
    let Some((process, store)) = w.ops.get(&id).map(|op| (op.process, op.store)) else { return };
    let others: Vec<u64> = w
        .ops
        .iter()
        .filter(|(other, op)| **other != id && op.process == process && op.store == store)
        .map(|(&other, _)| other)
        .collect();
    for other in others {
        if let Some(found) = w.stores.get_mut(&store) {
            found.held.retain(|held| *held != other);
            found.stuck.remove(&other);
        }
        let runs = w.rng.chance(300);
        if runs && w.ops.get(&other).is_some_and(|op| op.kind != IoKind::Reset) {
            let hung = w.stores.get_mut(&store).is_some_and(|s| std::mem::replace(&mut s.hung, false));
            execute(w, other);
            if let Some(found) = w.stores.get_mut(&store) {
                found.hung = hung;
            }
        }
        let Some(mut op) = w.ops.remove(&other) else { continue };
        if let Some(io) = op.io.take() {
            finish(
                w,
                op.thread,
                io,
                if op.kind == IoKind::Reset { IoStatus::Success } else { IoStatus::Aborted },
            );
        }
    }
}

/// An operation has ended.
pub(crate) fn done(w: &mut World, id: u64) {
    if w.ops.get(&id).is_none_or(|op| !op.executed) || hold(w, id) {
        return;
    }
    let Some(mut op) = w.ops.remove(&id) else { return };
    if let Some(io) = op.io.take() {
        finish(w, op.thread, io, op.status);
    }
}

/// Tells the thread that submitted it.
fn finish(w: &mut World, thread: u64, io: Box<dyn PendingIo>, status: IoStatus) {
    let back: Option<process::Message> = w.post(thread, Box::new(move || io.done(status)));
    if let Some(message) = back {
        w.trash.push(Box::new(message));
    }
}

/// What a process had in its backends: one of its own has ended with it; an outside one goes on for a moment, with
/// nobody to tell.
pub(crate) fn process_dies(w: &mut World, process: u32) {
    let ids: Vec<u64> = w.ops.iter().filter(|(_, op)| op.process == process).map(|(&id, _)| id).collect();
    let held = w.processes.get_mut(&process).map(|p| std::mem::take(&mut p.held)).unwrap_or_default();
    for id in ids {
        let Some(op) = w.ops.get_mut(&id) else { continue };
        let Some(mut io) = op.io.take() else { continue };
        let (thread, store) = (op.thread, op.store);
        let in_process = w.stores.get(&store).is_none_or(|s| s.config.in_process);
        if in_process {
            w.ops.remove(&id);
            if let Some(found) = w.stores.get_mut(&store) {
                found.held.retain(|other| *other != id);
            }
        } else {
            let copy = Orphan(io.data().to_vec());
            if let Some(op) = w.ops.get_mut(&id) {
                op.io = Some(Box::new(copy));
                op.thread = 0;
            }
            let hung = w.stores.get_mut(&store).map(|s| {
                let before = s.held.len();
                s.held.retain(|other| *other != id);
                before > s.held.len()
            });
            if held.contains(&id) || hung == Some(true) {
                resume(w, id);
            }
        }
        finish(w, thread, io, IoStatus::Failed);
    }
}

/// The data of an operation whose process is dead.
struct Orphan(Vec<u8>);

impl PendingIo for Orphan {
    fn data(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn done(self: Box<Self>, _: IoStatus) {}
}

/// Writes that a crash could take, with the block that each is in.
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
