//! The bdevs that the code under test has registered, as SPDK's bdev layer sees them.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use world::slots::Slot;
use world::{World, process, with};

use crate::desc::Descs;
use crate::disk::{AnyChannel, AnyDisk, DestructDone, Disk, DiskInfo, Of};
use crate::errno::{Errno, Result};
use crate::record::{Record, record};

type Unregistered = Box<dyn FnOnce(Result<()>)>;

pub(crate) struct SimDisk {
    pub process: u32,
    pub disk: Rc<dyn AnyDisk>,
    pub info: DiskInfo,
    pub channels: BTreeMap<u64, Rc<dyn AnyChannel>>,
    pub opens: usize,
    pub unregister: Option<(u64, Option<Unregistered>)>,
    destructing: bool,
    destructed: bool,
    /// Whether a reset is in progress; I/O that is submitted meanwhile is aborted.
    pub resetting: bool,
    /// The number of I/Os outstanding, by thread.
    pub busy: BTreeMap<u64, usize>,
}

impl SimDisk {
    pub fn new(process: u32, disk: Rc<dyn AnyDisk>, info: DiskInfo) -> SimDisk {
        SimDisk {
            process,
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

/// All bdevs, by number.
#[derive(Default)]
pub(crate) struct Disks(pub BTreeMap<u64, SimDisk>);

impl Disks {
    /// Returns the process's bdev of this name.
    pub fn find(&self, process: u32, name: &str) -> Option<&SimDisk> {
        self.0.values().find(|disk| disk.process == process && disk.info.name == name)
    }

    /// Returns true if a bdev of the process has this UUID.
    pub fn has_uuid(&self, process: u32, uuid: [u8; 16]) -> bool {
        self.0.values().any(|disk| disk.process == process && disk.info.uuid == uuid)
    }
}

impl Slot for Disks {
    fn take(&mut self, process: u32) -> Option<Box<dyn Any>> {
        let gone: Vec<SimDisk> =
            self.0.extract_if(.., |_, disk| disk.process == process).map(|(_, disk)| disk).collect();
        Some(Box::new(gone))
    }
}

/// Returns the bdev with this number.
pub(crate) fn sim_disk(w: &mut World, disk: u64) -> Option<&mut SimDisk> {
    w.slots.get::<Disks>().0.get_mut(&disk)
}

/// A registered bdev.
pub struct Registered<D> {
    id: u64,
    name: String,
    _not_send: PhantomData<*mut D>,
}

/// Registers a bdev with SPDK.
pub fn register<D: Disk>(disk: Arc<D>, info: DiskInfo) -> Result<Registered<D>> {
    if info.name.is_empty() || info.block_size == 0 || info.num_blocks == 0 {
        return Err(Errno::EINVAL);
    }
    let name = info.name.clone();
    let process = with(|w| {
        let process = w.current_process().ok_or(Errno::ESRCH)?;
        let is_bdev = w.slots.get::<Descs>().bdevs.contains_key(&(process, name.clone()));
        let is_disk = w.slots.get::<Disks>().find(process, &name).is_some();
        if is_bdev || is_disk { Err(Errno::EEXIST) } else { Ok(process) }
    })?;
    let disk: Rc<dyn AnyDisk> = Rc::new(Of(disk));
    let id = with(|w| {
        let id = w.id();
        record(w, |seq| Record::DiskIsThere { seq, process, disk: id, name: name.clone() });
        w.slots.get::<Disks>().0.insert(id, SimDisk::new(process, disk, info));
        id
    });
    Ok(Registered { id, name, _not_send: PhantomData })
}

impl<D: Disk> Registered<D> {
    /// Returns the bdev's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Unregisters the bdev. When everybody has closed it and the disk has been destructed, `done`
    /// is called on this thread.
    pub fn unregister(&self, done: impl FnOnce(Result<()>) + 'static) {
        unregister(self.id, Box::new(done));
    }

    /// Changes the number of blocks and records the change.
    ///
    /// `EBUSY`: the bdev is open and would shrink.
    pub fn resize(&self, num_blocks: u64) -> Result<()> {
        with(|w| {
            let disk = sim_disk(w, self.id).ok_or(Errno::ENODEV)?;
            if num_blocks < disk.info.num_blocks && disk.opens > 0 {
                return Err(Errno::EBUSY);
            }
            disk.info.num_blocks = num_blocks;
            let disk = self.id;
            record(w, |seq| Record::DiskResized { seq, disk, num_blocks });
            Ok(())
        })
    }

    /// Does nothing: the simulated users ask the disk each time.
    pub fn kinds_changed(&self) {}
}

fn unregister(id: u64, done: Unregistered) {
    let mut done = Some(done);
    let result = with(|w| {
        let thread = w.current_thread().ok_or(Errno::ESRCH)?;
        let disk = sim_disk(w, id).ok_or(Errno::ENODEV)?;
        if disk.unregister.is_some() {
            return Err(Errno::EBUSY);
        }
        disk.unregister = Some((thread, done.take()));
        record(w, |seq| Record::DiskGoes { seq, disk: id });
        Ok(())
    });
    match (result, done) {
        (Err(errno), Some(done)) => done(Err(errno)),
        _ => proceed(id),
    }
}

/// Continues an unregistration if nobody has the bdev open any more.
pub(crate) fn proceed(id: u64) {
    let destruct = with(|w| {
        let disk = sim_disk(w, id)?;
        let (thread, _) = disk.unregister.as_ref()?;
        if disk.opens > 0 || disk.destructing {
            return None;
        }
        disk.destructing = true;
        Some((*thread, Rc::clone(&disk.disk)))
    });
    if let Some((thread, disk)) = destruct {
        process::on(thread, move || disk.destruct(DestructDone { disk: id, destructed }));
    }
    gone(id);
}

fn destructed(id: u64) {
    with(|w| {
        if let Some(disk) = sim_disk(w, id) {
            disk.destructed = true;
        }
    });
    gone(id);
}

fn gone(id: u64) {
    let gone = with(|w| {
        if !sim_disk(w, id).is_some_and(|d| d.destructed && d.channels.is_empty()) {
            return None;
        }
        record(w, |seq| Record::DiskGone { seq, disk: id });
        w.slots.get::<Disks>().0.remove(&id)
    });
    if let Some(mut disk) = gone
        && let Some((thread, Some(done))) = disk.unregister.take()
    {
        process::on(thread, move || done(Ok(())));
    }
}

/// Returns whether a bdev is being removed or is gone.
pub fn is_going(disk: u64) -> bool {
    with(|w| sim_disk(w, disk).is_none_or(|d| d.unregister.is_some()))
}

/// Returns a bdev's size, in blocks.
pub fn num_blocks(disk: u64) -> u64 {
    with(|w| sim_disk(w, disk).map_or(0, |d| d.info.num_blocks))
}

/// Returns a bdev's UUID; zeroes if the bdev is gone.
pub fn uuid(disk: u64) -> [u8; 16] {
    with(|w| sim_disk(w, disk).map_or([0; 16], |d| d.info.uuid))
}
