//! The operations in progress in stores.

use crate::content::{fill, write_of};
use crate::state::Event;
use crate::state::store::{
    Action, Block, Content, Fact, Operation, Origin, PendingIo, Request, Status, Version,
};
use crate::world::World;

/// Gives an operation of the current thread to a store.
pub fn submit(w: &mut World, request: Request, mut io: Box<dyn PendingIo>) {
    let Some(thread) = w.current else { return w.discard(io) };
    let Some(process) = w.current_process() else { return w.discard(io) };
    let Request { store, action, offset, count, read_only } = request;
    w.active();
    let alive = w.is_alive(process);
    let seq = w.stamp();
    let Some(found) = w.stores.get(&store).filter(|_| alive) else {
        return finish(w, thread, io, Status::Failed);
    };
    let has_range = action.modifies() || action == Action::Read;
    let is_outside = action != Action::Reset && offset + count > found.config.num_blocks;
    if is_outside || has_range && count == 0 || read_only && action.modifies() {
        return finish(w, thread, io, Status::Failed);
    }
    let origin = identify(w, request, io.data());
    let write = origin.write();
    let config = &w.stores[&store].config;
    let (low, high) = config.latency_us;
    let errors = config.errors;
    let latency = w.rng.range(low, high);
    let executes = w.rng.range(0, latency);
    let status = if w.rng.chance(errors) { Status::Failed } else { Status::Success };
    let id = w.id();
    w.note(|| format!("store {store}: op {id} {action:?} {offset}+{count} write {write} for {latency} us"));
    w.facts.push(Fact::Handed { seq, process, request, origin });
    w.operations
        .insert(id, Operation { process, thread, request, io: Some(io), status, executed: false, write });
    let now = w.now;
    w.at(now + executes, Event::Execute(id));
    w.at(now + latency, Event::Done(id));
}

/// Returns which user's I/O an operation is from.
fn identify(w: &World, request: Request, data: &[u8]) -> Origin {
    let Request { store, action, offset, count, .. } = request;
    let found = &w.stores[&store];
    let size = found.config.block_size as usize;
    match action {
        Action::Write | Action::CompareAndWrite => {
            let half = if action == Action::Write { 0 } else { count as usize * size };
            let new = &data[half..];
            let mut blocks =
                new.chunks_exact(size).zip(offset..).map(|(bytes, block)| write_of(bytes, block));
            match blocks.next().flatten() {
                Some(first) if first != 0 && blocks.all(|other| other == Some(first)) => Origin::Write(first),
                _ => Origin::Mixed,
            }
        }
        Action::Unmap | Action::WriteZeroes => {
            // The whole, or a part of it.
            let is_it = |&(of, from, blocks): &(Action, u64, u64)| {
                of == action && offset >= from && offset + count <= from + blocks
            };
            let exact = found.expected.iter().rev().find(|(key, _)| *key == (action, offset, count));
            let expected = exact.or_else(|| found.expected.iter().rev().find(|(key, _)| is_it(key)));
            expected.map_or(Origin::Unasked, |(_, write)| Origin::Write(*write))
        }
        Action::Read | Action::Flush | Action::Reset => Origin::Nothing,
    }
}

/// Returns whether an operation cannot proceed now. Such an operation is held.
fn hold(w: &mut World, id: u64) -> bool {
    let Some(op) = w.operations.get(&id) else { return true };
    let (process, store) = (op.process, op.request.store);
    let reset = op.request.action == Action::Reset;
    // The operation is of a dead process. The world guarantees that it ends before the leases of
    // the process do.
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

/// Continues an operation that was held.
pub(crate) fn resume(w: &mut World, id: u64) {
    let most = w.rng.pick(&[500, 5000, 20_000]);
    let at = w.now + w.rng.below(most);
    if w.operations.get(&id).is_some_and(|op| !op.executed) {
        w.at(at, Event::Execute(id));
    }
    w.at(at, Event::Done(id));
}

/// Executes an operation. This is the moment at which it takes effect.
pub(crate) fn execute(w: &mut World, id: u64) {
    if w.operations.get(&id).is_none_or(|op| op.executed) || hold(w, id) {
        return;
    }
    let half_done = w.rng.bits();
    let seq = w.stamp();
    let Some(op) = w.operations.get_mut(&id) else { return };
    op.executed = true;
    let (process, request, write) = (op.process, op.request, op.write);
    let Request { store: store_id, action, offset, mut count, .. } = request;
    if op.status != Status::Success {
        // An error says nothing about what was executed: all of it, a part, or nothing.
        count = if action == Action::CompareAndWrite { 0 } else { half_done % (count + 1) };
    }
    let Some(store) = w.stores.get_mut(&store_id) else { return };
    let size = store.config.block_size as usize;
    let range = offset as usize..(offset + count) as usize;
    let data = op.io.as_mut().map(|io| io.data());
    match (action, data) {
        (Action::Read, Some(data)) => {
            for (block, bytes) in range.zip(data.chunks_exact_mut(size)) {
                fill(bytes, block as u64, store.blocks[block].content());
            }
            return;
        }
        (Action::Flush, _) => {
            store.blocks[range].iter_mut().for_each(|block| block.durable = block.versions.len() - 1);
            return;
        }
        (Action::Reset, _) => return reset(w, id),
        (Action::CompareAndWrite, Some(data)) => {
            let mut blocks = store.blocks[range.clone()].iter().zip(offset..).zip(data.chunks_exact(size));
            if !blocks.all(|((block, number), bytes)| is_equal(block, number, bytes)) {
                op.status = Status::Miscompare;
                w.facts.push(Fact::Executed { seq, process, request, count: 0, write });
                w.note(|| format!("store {store_id}: op {id} write {write} miscompares"));
                return;
            }
        }
        _ => {}
    }
    let zero = matches!(action, Action::Unmap | Action::WriteZeroes);
    let durable = !store.config.write_cache;
    for block in &mut store.blocks[range] {
        block.versions.push(Version { from: seq, content: Content { write, zero } });
        if durable {
            block.durable = block.versions.len() - 1;
        }
    }
    w.note(|| format!("store {store_id}: op {id} executed, {offset}+{count} has write {write}"));
    w.facts.push(Fact::Executed { seq, process, request, count, write });
}

/// Returns whether a block holds these bytes.
fn is_equal(block: &Block, number: u64, bytes: &[u8]) -> bool {
    let content = block.content();
    write_of(bytes, number) == Some(if content.zero { 0 } else { content.write })
}

/// Ends all other operations of the reset's process in the same store.
fn reset(w: &mut World, id: u64) {
    let Some((process, store)) = w.operations.get(&id).map(|op| (op.process, op.request.store)) else {
        return;
    };
    let others: Vec<u64> = w
        .operations
        .iter()
        .filter(|(other, op)| **other != id && op.process == process && op.request.store == store)
        .map(|(&other, _)| other)
        .collect();
    for other in others {
        if let Some(found) = w.stores.get_mut(&store) {
            found.held.retain(|held| *held != other);
            found.stuck.remove(&other);
        }
        let runs = w.rng.chance(300);
        if runs && w.operations.get(&other).is_some_and(|op| op.request.action != Action::Reset) {
            let hung = w.stores.get_mut(&store).is_some_and(|s| std::mem::replace(&mut s.hung, false));
            execute(w, other);
            if let Some(found) = w.stores.get_mut(&store) {
                found.hung = hung;
            }
        }
        let Some(mut op) = w.operations.remove(&other) else { continue };
        if let Some(io) = op.io.take() {
            let is_reset = op.request.action == Action::Reset;
            finish(w, op.thread, io, if is_reset { Status::Success } else { Status::Aborted });
        }
    }
}

/// Fails all operations of a store at once, as happens to a device that is pulled. Some were
/// executed before, or take effect in part.
pub(crate) fn fail_all(w: &mut World, store: u32) {
    let all: Vec<u64> =
        w.operations.iter().filter(|(_, op)| op.request.store == store).map(|(&id, _)| id).collect();
    for id in all {
        if let Some(found) = w.stores.get_mut(&store) {
            found.held.retain(|held| *held != id);
            found.stuck.remove(&id);
        }
        if let Some(op) = w.operations.get_mut(&id) {
            op.status = Status::Failed;
        }
        let is_data = w.operations.get(&id).is_some_and(|op| op.request.action.modifies());
        if is_data && w.rng.chance(300) {
            let hung = w.stores.get_mut(&store).is_some_and(|s| std::mem::replace(&mut s.hung, false));
            execute(w, id);
            if let Some(found) = w.stores.get_mut(&store) {
                found.hung = hung;
            }
        }
        let Some(mut op) = w.operations.remove(&id) else { continue };
        if let Some(io) = op.io.take() {
            finish(w, op.thread, io, Status::Failed);
        }
    }
}

/// Completes an operation.
pub(crate) fn done(w: &mut World, id: u64) {
    if w.operations.get(&id).is_none_or(|op| !op.executed) || hold(w, id) {
        return;
    }
    let Some(mut op) = w.operations.remove(&id) else { return };
    if let Some(io) = op.io.take() {
        finish(w, op.thread, io, op.status);
    }
}

/// Tells the thread that submitted an operation of its outcome.
fn finish(w: &mut World, thread: u64, io: Box<dyn PendingIo>, status: Status) {
    w.tell(thread, Box::new(move || io.done(status)));
}

/// Ends the operations of a dead process. Operations of its own stores end with it; those of
/// outside stores continue for a moment, without anybody to tell.
pub(crate) fn process_dies(w: &mut World, process: u32) {
    let ids: Vec<u64> =
        w.operations.iter().filter(|(_, op)| op.process == process).map(|(&id, _)| id).collect();
    let held = w.processes.get_mut(&process).map(|p| std::mem::take(&mut p.held)).unwrap_or_default();
    for id in ids {
        let Some(op) = w.operations.get_mut(&id) else { continue };
        let Some(mut io) = op.io.take() else { continue };
        let (thread, store) = (op.thread, op.request.store);
        let in_process = w.stores.get(&store).is_none_or(|s| s.config.in_process);
        if in_process {
            w.operations.remove(&id);
            if let Some(found) = w.stores.get_mut(&store) {
                found.held.retain(|other| *other != id);
            }
        } else {
            op.io = Some(Box::new(Orphan(io.data().to_vec())));
            op.thread = 0;
            let hung = w.stores.get_mut(&store).map(|s| {
                let before = s.held.len();
                s.held.retain(|other| *other != id);
                before > s.held.len()
            });
            if held.contains(&id) || hung == Some(true) {
                resume(w, id);
            }
        }
        finish(w, thread, io, Status::Failed);
    }
}

/// The data of an operation whose process is dead.
struct Orphan(Vec<u8>);

impl PendingIo for Orphan {
    fn data(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn done(self: Box<Self>, _: Status) {}
}
