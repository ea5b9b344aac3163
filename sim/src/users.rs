//! The users of the bdevs: random I/O to so few blocks that much of it overlaps.

use std::collections::BTreeSet;

use spdk::backend::action;
use spdk::bdev_io::IoKind;
use spdk::user::{self, UserIo};
use world::process;
use world::store::{self, Content};

use crate::model::{Io, Model};
use crate::plan::Plan;

/// A user: a client's thread that has a channel on the client's bdev.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// The client.
    pub client: usize,
    /// Its bdev.
    pub disk: u64,
    /// Its thread.
    pub thread: u64,
    /// The store that the bdev should reach.
    pub store: u32,
}

/// Ranges of writes without data. The store can tell these apart only by range, so each occurs
/// once; and as a target executes long ones in parts, nothing overlaps those of [`IN_PARTS`] blocks
/// or more.
pub type UsedRanges = BTreeSet<(u32, IoKind, u64, u64)>;

/// From this length on a client or a target may cut, in blocks. The smallest part in the simulator has
/// two, but parts end at multiples of their size, so that two blocks at an odd offset are cut as well.
const IN_PARTS: u64 = 2;

/// Most blocks of one I/O.
const BLOCKS_MAX: u64 = 8;

/// Most blocks of a compare-and-write.
const COMPARE_MAX: u64 = 4;

/// Makes a random I/O and submits it.
pub fn submit_random(plan: &Plan, model: &mut Model, used: &mut UsedRanges, by: User) {
    let read_only = plan.read_only && by.client == 1;
    let blocks = user::num_blocks(by.disk);
    if blocks == 0 {
        return;
    }
    let (kind, offset, count, inside) = world::dice(|r| {
        let kind = match r.below(100) {
            0..=29 => IoKind::Read,
            30..=64 => IoKind::Write,
            65..=72 => IoKind::Flush,
            73..=78 => IoKind::WriteZeroes,
            79..=84 => IoKind::Unmap,
            85..=97 => IoKind::CompareAndWrite,
            _ if plan.resets => IoKind::Reset,
            _ => IoKind::Flush,
        };
        let writes = matches!(kind, IoKind::Write | IoKind::WriteZeroes | IoKind::Unmap);
        let kind = if writes && plan.compares_only { IoKind::CompareAndWrite } else { kind };
        let most = if kind == IoKind::CompareAndWrite { COMPARE_MAX } else { BLOCKS_MAX };
        let most = if r.chance(600) { 2 } else { most };
        let count = r.range(1, most).min(blocks);
        // The first blocks are used more than others.
        let last = if r.chance(500) { (blocks - count).min(3) } else { blocks - count };
        (kind, r.range(0, last), count, r.chance(100))
    });
    // A host with only read access tries to write all the same.
    if !(user::supports(by.disk, kind) || read_only && kind == IoKind::Write) {
        return;
    }
    let bare = matches!(kind, IoKind::WriteZeroes | IoKind::Unmap);
    if bare {
        let is_taken = used.iter().any(|&(store, of, from, blocks)| {
            let overlaps = offset < from + blocks && from < offset + count;
            (store, of) == (by.store, kind) && overlaps && blocks.max(count) >= IN_PARTS
        });
        if is_taken || !used.insert((by.store, kind, offset, count)) {
            return;
        }
    }
    submit(plan, model, by, (kind, offset, count), inside);
}

/// Submits an I/O and returns its number. With `inside`, the I/O waits for the next completion on
/// its thread and is submitted from within that.
pub fn submit(plan: &Plan, model: &mut Model, by: User, what: (IoKind, u64, u64), inside: bool) -> u64 {
    let (kind, offset, count) = what;
    let ranged = !matches!(kind, IoKind::Flush | IoKind::Reset);
    let (offset, count) = if ranged { (offset, count) } else { (0, 0) };
    let number = model.add(Io {
        client: by.client,
        disk: by.disk,
        thread: by.thread,
        store: by.store,
        kind,
        offset,
        count,
        read_only: plan.read_only && by.client == 1,
        submitted: None,
        completed: None,
        orphan: false,
        handed: Vec::new(),
        executed: Vec::new(),
    });
    let size = plan.block_size as usize;
    let bytes = count as usize * size;
    let mut data = match kind {
        IoKind::Read => vec![0x5a; bytes],
        IoKind::Write => vec![0; bytes],
        IoKind::CompareAndWrite => vec![0; 2 * bytes],
        _ => Vec::new(),
    };
    let new = Content { write: number, zero: false };
    match kind {
        IoKind::Write => fill(&mut data, size, offset, |_| new),
        IoKind::CompareAndWrite => {
            let (old, rest) = data.split_at_mut(bytes);
            // Mostly what the block holds now, which often is still there when the backend
            // compares.
            let right = world::dice(|r| r.chance(800));
            fill(old, size, offset, |block| {
                if right && block < store::num_blocks(by.store) {
                    store::content(by.store, block)
                } else {
                    Content { write: number, zero: false }
                }
            });
            fill(rest, size, offset, |_| new);
        }
        IoKind::WriteZeroes | IoKind::Unmap => {
            let action = action(kind).expect("stores do that");
            store::expect(by.store, action, offset, count, number);
        }
        _ => {}
    }
    let io = UserIo { id: number, kind, offset, count, data };
    let User { disk, thread, .. } = by;
    if inside {
        user::submit_inside(disk, thread, io);
    } else {
        process::on(thread, move || {
            if user::has_channel(disk) {
                user::submit(disk, io);
            }
        });
    }
    number
}

fn fill(data: &mut [u8], size: usize, offset: u64, content: impl Fn(u64) -> Content) {
    for (bytes, block) in data.chunks_exact_mut(size).zip(offset..) {
        store::fill(bytes, block, content(block));
    }
}
