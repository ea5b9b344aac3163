//! The users of the bdevs of the code under test, and SPDK's bdev layer as far as it matters here.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use spdk_contract::io::{IoKind, IoStatus};
use world::slots::Slot;
use world::{World, with};

use crate::bdev_io::BdevIo;
use crate::clock;
use crate::disk::AnyChannel;
pub use crate::disks::{is_going, num_blocks, uuid};
use crate::disks::{proceed, sim_disk};
use crate::errno::{Errno, Result};
use crate::record::{Record, record};

/// A user's I/O.
#[derive(Debug, Clone)]
pub struct UserIo {
    /// The I/O's number: unique, and the tag of a write's data.
    pub id: u64,
    /// The kind of I/O.
    pub kind: IoKind,
    /// The first block.
    pub offset: u64,
    /// The number of blocks.
    pub count: u64,
    /// The data to write, or to compare and then write; for a read, room for the data.
    pub data: Vec<u8>,
}

/// I/O to be submitted from within a completion, by bdev and thread.
#[derive(Default)]
struct Inside(BTreeMap<(u64, u64), VecDeque<UserIo>>);

impl Slot for Inside {}

/// Opens a bdev and creates this thread's channel on it.
///
/// # Errors
///
/// The bdev is gone or being removed, or cannot create a channel.
pub fn open(disk: u64) -> Result<()> {
    let (found, thread) = with(|w| {
        let thread = w.current_thread().ok_or(Errno::ESRCH)?;
        let disk = sim_disk(w, disk).filter(|d| d.unregister.is_none()).ok_or(Errno::ENODEV)?;
        disk.opens += 1;
        Ok((Rc::clone(&disk.disk), thread))
    })?;
    let channel: Rc<dyn AnyChannel> = Rc::from(found.create_channel()?);
    with(|w| {
        if let Some(disk) = sim_disk(w, disk) {
            disk.channels.insert(thread, channel);
        }
    });
    Ok(())
}

/// Destroys this thread's channel and closes the bdev, unless the thread has I/O outstanding.
pub fn close(disk: u64) {
    let channel = with(|w| {
        let thread = w.current_thread()?;
        if sim_disk(w, disk)?.busy.get(&thread).is_some_and(|busy| *busy > 0) {
            return None;
        }
        sim_disk(w, disk)?.channels.remove(&thread)
    });
    if let Some(channel) = channel {
        channel.destroy();
        with(|w| {
            if let Some(disk) = sim_disk(w, disk) {
                disk.opens -= 1;
            }
        });
    }
    proceed(disk);
}

/// Returns whether a bdev supports this kind of I/O.
pub fn supports(disk: u64, kind: IoKind) -> bool {
    let found = with(|w| sim_disk(w, disk).map(|d| Rc::clone(&d.disk)));
    found.is_some_and(|disk| disk.supports(kind))
}

/// Returns whether this thread has a channel on the bdev.
pub fn has_channel(disk: u64) -> bool {
    with(|w| {
        w.current_thread().is_some_and(|t| sim_disk(w, disk).is_some_and(|d| d.channels.contains_key(&t)))
    })
}

/// Returns whether the given thread has a channel on the bdev.
pub fn is_open(disk: u64, thread: u64) -> bool {
    with(|w| sim_disk(w, disk).is_some_and(|d| d.channels.contains_key(&thread)))
}

/// Submits an I/O on this thread, which has a channel on the bdev.
pub fn submit(disk: u64, io: UserIo) {
    let clock_us = clock::now_us();
    submit_at(disk, io, clock_us);
}

fn submit_at(disk: u64, io: UserIo, clock_us: u64) {
    let UserIo { id, kind, offset, count, data } = io;
    let to = with(|w| {
        w.active();
        let thread = w.current_thread()?;
        w.note(|| format!("I/O {id} {kind:?} {offset}+{count} submitted"));
        record(w, |seq| Record::Submitted { seq, io: id, clock_us });
        let found = sim_disk(w, disk)?;
        let inside = !matches!(kind, IoKind::Flush | IoKind::Reset);
        let bad = inside && offset + count > found.info.num_blocks;
        if found.resetting || bad {
            let status = if found.resetting { IoStatus::Aborted } else { IoStatus::Failed };
            w.note(|| format!("I/O {id} ended by SPDK's bdev layer: {status:?}"));
            let (data, by_layer, on_its_thread) = (Vec::new(), true, true);
            record(w, |seq| Record::Completed { seq, io: id, status, data, by_layer, on_its_thread });
            return None;
        }
        let channel = Rc::clone(found.channels.get(&thread)?);
        found.resetting = kind == IoKind::Reset;
        *found.busy.entry(thread).or_default() += 1;
        let done: fn(&mut BdevIo, IoStatus) = completed;
        Some((channel, BdevIo { id, disk, thread, kind, offset, count, data, done: Some(done), stamp: 0 }))
    });
    if let Some((channel, io)) = to {
        channel.submit(io);
    }
}

/// Submits an I/O from within the next completion on the thread's channel, which users may do.
pub fn submit_inside(disk: u64, thread: u64, io: UserIo) {
    with(|w| w.slots.get::<Inside>().0.entry((disk, thread)).or_default().push_back(io));
}

/// Drops the I/O that is still to be submitted from within a completion.
pub fn forget_inside() {
    with(|w| w.slots.get::<Inside>().0.clear());
}

/// Called when the code under test completes an I/O.
fn completed(io: &mut BdevIo, status: IoStatus) {
    let next = with(|w| {
        let process = sim_disk(w, io.disk)?.process;
        // The user died with its process.
        if !w.is_alive(process) {
            return None;
        }
        let disk = sim_disk(w, io.disk)?;
        if io.kind == IoKind::Reset {
            disk.resetting = false;
        }
        if let Some(busy) = disk.busy.get_mut(&io.thread) {
            *busy -= 1;
        }
        let on_its_thread = w.current_thread() == Some(io.thread);
        w.active();
        w.note(|| format!("{io:?} completed: {status:?}"));
        let (id, data) = (io.id, std::mem::take(&mut io.data));
        w.digest(id << 8 | status as u64);
        record(w, |seq| Record::Completed { seq, io: id, status, data, by_layer: false, on_its_thread });
        w.slots.get::<Inside>().0.get_mut(&(io.disk, io.thread))?.pop_front()
    });
    if let Some(next) = next {
        let clock_us = with(World::go_on);
        submit_at(io.disk, next, clock_us);
    }
}
