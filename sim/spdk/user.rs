//! Who uses the clients' bdevs: SPDK's bdev layer as far as it matters here, and what the world tells of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::bdev_io::BdevIo;
use crate::disk::{AnyChannel, AnyDisk, DestructDone, DiskInfo};
use crate::errno::{Errno, Result};
use crate::process;
use crate::promise;
use crate::world::{World, with};
use spdk_contract::io::IoKind;
use spdk_contract::io::IoStatus;

type Unregistered = Box<dyn FnOnce(Result<()>)>;

pub(crate) struct SimDisk {
    pub id: u64,
    pub process: u32,
    /// The process is dead.
    pub dead: bool,
    pub disk: Rc<dyn AnyDisk>,
    pub info: DiskInfo,
    pub channels: BTreeMap<u64, Rc<dyn AnyChannel>>,
    pub opens: usize,
    unregister: Option<(u64, Option<Unregistered>)>,
    destructing: bool,
    destructed: bool,
    /// A reset is under way: what is submitted meanwhile is aborted.
    resetting: bool,
    /// I/O outstanding, by thread.
    busy: BTreeMap<u64, usize>,
}

impl SimDisk {
    pub fn new(id: u64, process: u32, disk: Rc<dyn AnyDisk>, info: DiskInfo) -> SimDisk {
        SimDisk {
            id,
            process,
            dead: false,
            disk,
            info,
            channels: BTreeMap::new(),
            opens: 0,
            unregister: None,
            destructing: false,
            destructed: false,
            resetting: false,
            busy: BTreeMap::new(),
        }
    }
}

/// An I/O of a user's.
#[derive(Debug, Clone)]
pub struct UserIo {
    /// Unique, and the mark of a write's data.
    pub id: u64,
    /// What it wants.
    pub kind: IoKind,
    /// First block.
    pub offset: u64,
    /// Blocks.
    pub count: u64,
    /// What to write, or to compare and write; room for what is read.
    pub data: Vec<u8>,
}

/// What happened, in this order.
#[derive(Debug)]
pub enum Record {
    /// A client has a bdev.
    DiskIsThere {
        /// Its process.
        process: u32,
        /// Its number.
        disk: u64,
        /// Its name.
        name: String,
    },
    /// Users of a bdev are asked to close it.
    DiskGoes {
        /// Its number.
        disk: u64,
    },
    /// A bdev is gone.
    DiskGone {
        /// Its number.
        disk: u64,
    },
    /// A bdev has another size.
    DiskResized {
        /// Its number.
        disk: u64,
        /// Blocks.
        num_blocks: u64,
    },
    /// A user's I/O was given to the code under test.
    Submitted {
        /// When.
        seq: u64,
        /// Its number.
        io: u64,
    },
    /// It came back.
    Completed {
        /// When.
        seq: u64,
        /// Its number.
        io: u64,
        /// How it ended.
        status: IoStatus,
        /// What was read.
        data: Vec<u8>,
        /// SPDK's bdev layer ended it, the code under test never saw it.
        by_layer: bool,
    },
    /// The code under test gave the backend an operation.
    Handed {
        /// When.
        seq: u64,
        /// The target.
        process: u32,
        /// The store.
        store: u32,
        /// What.
        kind: IoKind,
        /// First block.
        offset: u64,
        /// Blocks.
        count: u64,
        /// The user's I/O; 0: none that writes.
        write: u64,
    },
    /// The backend changed blocks.
    Executed {
        /// When.
        seq: u64,
        /// The target.
        process: u32,
        /// The store.
        store: u32,
        /// What.
        kind: IoKind,
        /// First block.
        offset: u64,
        /// Blocks; 0: a compare-and-write that found others.
        count: u64,
        /// The user's I/O.
        write: u64,
    },
    /// The backend forgot a write.
    Lost {
        /// When.
        seq: u64,
        /// The store.
        store: u32,
        /// The block.
        block: u64,
        /// The user's I/O.
        write: u64,
    },
}

thread_local! {
    static RECORDS: RefCell<Vec<Record>> = const { RefCell::new(Vec::new()) };
    static INLINE: RefCell<BTreeMap<(u64, u64), VecDeque<UserIo>>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) fn forget_hooks() {
    RECORDS.with_borrow_mut(Vec::clear);
    INLINE.with_borrow_mut(BTreeMap::clear);
}

impl World {
    pub fn record(&mut self, record: Record) {
        RECORDS.with_borrow_mut(|all| all.push(record));
    }
}

/// What happened since the last call.
pub fn take_records() -> Vec<Record> {
    RECORDS.with_borrow_mut(std::mem::take)
}

/// Opens a bdev and makes this thread's channel.
///
/// # Errors
/// It is gone or going, or has no channel to give.
pub fn open(disk: u64) -> Result<()> {
    let (found, thread) = with(|w| {
        let thread = w.current.ok_or(Errno::ESRCH)?;
        let disk = w.disks.get_mut(&disk).filter(|d| d.unregister.is_none()).ok_or(Errno::ENODEV)?;
        disk.opens += 1;
        Ok((Rc::clone(&disk.disk), thread))
    })?;
    let channel: Rc<dyn AnyChannel> = Rc::from(found.create_channel()?);
    with(|w| {
        if let Some(disk) = w.disks.get_mut(&disk) {
            disk.channels.insert(thread, channel);
        }
    });
    Ok(())
}

/// Gives this thread's channel back and closes the bdev, unless it has I/O outstanding.
pub fn close(disk: u64) {
    let channel = with(|w| {
        let thread = w.current?;
        if w.disks.get(&disk)?.busy.get(&thread).is_some_and(|busy| *busy > 0) {
            return None;
        }
        w.disks.get_mut(&disk)?.channels.remove(&thread)
    });
    if let Some(channel) = channel {
        channel.destroy();
        with(|w| {
            if let Some(disk) = w.disks.get_mut(&disk) {
                disk.opens -= 1;
            }
        });
    }
    proceed(disk);
}

/// Whether a bdev does that kind of I/O.
pub fn supports(disk: u64, kind: IoKind) -> bool {
    let found = with(|w| w.disks.get(&disk).map(|d| Rc::clone(&d.disk)));
    found.is_some_and(|disk| disk.supports(kind))
}

/// Whether this thread has a channel.
pub fn has_channel(disk: u64) -> bool {
    with(|w| w.current.is_some_and(|t| w.disks.get(&disk).is_some_and(|d| d.channels.contains_key(&t))))
}

/// Submits an I/O on this thread, which has a channel.
pub fn submit(disk: u64, io: UserIo) {
    let UserIo { id, kind, offset, count, data } = io;
    let to = with(|w| {
        let seq = w.stamp();
        w.active();
        let thread = w.current?;
        w.note(|| format!("I/O {id} {kind:?} {offset}+{count} submitted"));
        w.record(Record::Submitted { seq, io: id });
        let found = w.disks.get_mut(&disk)?;
        let inside = !matches!(kind, IoKind::Flush | IoKind::Reset);
        let bad = inside && offset + count > found.info.num_blocks;
        if found.resetting || bad {
            let status = if found.resetting { IoStatus::Aborted } else { IoStatus::Failed };
            let seq = w.stamp();
            w.note(|| format!("I/O {id} ended by SPDK's bdev layer: {status:?}"));
            w.record(Record::Completed { seq, io: id, status, data: Vec::new(), by_layer: true });
            return None;
        }
        let channel = Rc::clone(found.channels.get(&thread)?);
        found.resetting = kind == IoKind::Reset;
        *found.busy.entry(thread).or_default() += 1;
        Some((channel, BdevIo { id, disk, thread, kind, offset, count, data, over: false, stamp: 0 }))
    });
    if let Some((channel, io)) = to {
        channel.submit(io);
    }
}

/// Submits an I/O from inside the next completion on that thread's channel, as users may.
pub fn submit_inside(disk: u64, thread: u64, io: UserIo) {
    INLINE.with_borrow_mut(|all| all.entry((disk, thread)).or_default().push_back(io));
}

/// Forgets what was to be submitted inside a completion and was not.
pub fn forget_inside() {
    INLINE.with_borrow_mut(BTreeMap::clear);
}

/// The code under test completes an I/O.
pub(crate) fn completed(io: &mut BdevIo, status: IoStatus) {
    let lives = with(|w| {
        let Some(disk) = w.disks.get_mut(&io.disk).filter(|d| !d.dead) else { return false };
        if io.kind == IoKind::Reset {
            disk.resetting = false;
        }
        if let Some(busy) = disk.busy.get_mut(&io.thread) {
            *busy -= 1;
        }
        if w.current != Some(io.thread) {
            w.violation(promise::ONE_COMPLETION, format!("{io:?} is completed on another thread"));
        }
        w.active();
        let seq = w.stamp();
        w.note(|| format!("{io:?} completed: {status:?}"));
        let (id, data) = (io.id, std::mem::take(&mut io.data));
        w.digest(id << 8 | status as u64);
        w.record(Record::Completed { seq, io: id, status, data, by_layer: false });
        true
    });
    let key = (io.disk, io.thread);
    let next = if lives {
        INLINE.with_borrow_mut(|all| all.get_mut(&key).and_then(VecDeque::pop_front))
    } else {
        None
    };
    if let Some(next) = next {
        submit(io.disk, next);
    }
}

pub(crate) fn unregister(id: u64, done: Unregistered) {
    let mut done = Some(done);
    let result = with(|w| {
        let thread = w.current.ok_or(Errno::ESRCH)?;
        let disk = w.disks.get_mut(&id).ok_or(Errno::ENODEV)?;
        if disk.unregister.is_some() {
            return Err(Errno::EBUSY);
        }
        disk.unregister = Some((thread, done.take()));
        w.record(Record::DiskGoes { disk: id });
        Ok(())
    });
    match (result, done) {
        (Err(errno), Some(done)) => done(Err(errno)),
        _ => proceed(id),
    }
}

/// Goes on with taking a bdev away, if it is time to.
fn proceed(id: u64) {
    let destruct = with(|w| {
        let disk = w.disks.get_mut(&id)?;
        let (thread, _) = disk.unregister.as_ref()?;
        if disk.opens > 0 || disk.destructing {
            return None;
        }
        disk.destructing = true;
        Some((*thread, Rc::clone(&disk.disk)))
    });
    if let Some((thread, disk)) = destruct {
        process::on(thread, move || disk.destruct(DestructDone { disk: id }));
    }
    gone(id);
}

pub(crate) fn destructed(id: u64) {
    with(|w| {
        if let Some(disk) = w.disks.get_mut(&id) {
            disk.destructed = true;
        }
    });
    gone(id);
}

fn gone(id: u64) {
    let gone = with(|w| {
        if !w.disks.get(&id).is_some_and(|d| d.destructed && d.channels.is_empty()) {
            return None;
        }
        w.record(Record::DiskGone { disk: id });
        w.disks.remove(&id)
    });
    if let Some(mut disk) = gone
        && let Some((thread, Some(done))) = disk.unregister.take()
    {
        process::on(thread, move || done(Ok(())));
    }
}

/// Whether a thread has a channel on a bdev.
pub fn is_open(disk: u64, thread: u64) -> bool {
    with(|w| w.disks.get(&disk).is_some_and(|d| d.channels.contains_key(&thread)))
}

/// Whether a bdev is being taken away, or is gone.
pub fn is_going(disk: u64) -> bool {
    with(|w| w.disks.get(&disk).is_none_or(|d| d.unregister.is_some()))
}

/// A bdev's size, in blocks.
pub fn num_blocks(disk: u64) -> u64 {
    with(|w| w.disks.get(&disk).map_or(0, |d| d.info.num_blocks))
}

/// A bdev's identity; zeroes when it is gone.
pub fn uuid(disk: u64) -> [u8; 16] {
    with(|w| w.disks.get(&disk).map_or([0; 16], |d| d.info.uuid))
}
