//! Using a bdev: looking it up, opening it, and its events.

use std::rc::Rc;

pub use spdk_contract::bdev::{BdevEvent, BdevInfo, IoTypes, Survives};
use world::store;
use world::{World, process, with, with_in_drop};

pub use crate::backend::{BackendChannel, BackendDone, BackendIo, IoStatus};
use crate::desc::{Backing, Descs, OnEvent, OpenDesc, Share, release};
use crate::disks::Disks;
use crate::errno::{Errno, Result};

/// The maximum number of blocks of a compare-and-write.
const ACWU: u32 = 4;

fn read(w: &World, name: &str, backing: Backing) -> Option<BdevInfo> {
    let config = store::config(w, backing.store)?;
    Some(BdevInfo {
        name: name.to_owned(),
        uuid: config.uuid,
        block_size: config.block_size,
        num_blocks: config.num_blocks,
        write_unit_size: 1,
        optimal_io_boundary: 0,
        required_alignment_log2: backing.required_alignment_log2,
        acwu: ACWU,
        write_cache: config.write_cache,
        md_size: 0,
        supports: backing.supports,
    })
}

/// Looks up a bdev by name without opening it.
pub fn info(name: &str) -> Option<BdevInfo> {
    with(|w| {
        let process = w.current_process()?;
        if let Some(&backing) = w.slots.get::<Descs>().bdevs.get(&(process, name.to_owned())) {
            return read(w, name, backing);
        }
        let disk = w.slots.get::<Disks>().find(process, name)?;
        Some(BdevInfo {
            name: name.to_owned(),
            uuid: disk.info.uuid,
            block_size: disk.info.block_size,
            num_blocks: disk.info.num_blocks,
            write_unit_size: disk.info.write_unit_size,
            optimal_io_boundary: disk.info.optimal_io_boundary,
            required_alignment_log2: 0,
            acwu: disk.info.acwu.into(),
            write_cache: disk.info.write_cache,
            md_size: 0,
            supports: IoTypes::READ,
        })
    })
}

/// Returns true if a bdev of the current process has this UUID.
pub fn has_uuid(uuid: [u8; 16]) -> bool {
    with(|w| {
        let Some(process) = w.current_process() else { return false };
        let backing = w.slots.get::<Descs>().bdevs.iter();
        let stores: Vec<_> = backing.filter(|((of, _), _)| *of == process).map(|(_, b)| b.store).collect();
        stores.into_iter().any(|store| store::config(w, store).is_some_and(|config| config.uuid == uuid))
            || w.slots.get::<Disks>().has_uuid(process, uuid)
    })
}

/// Returns the bdev's product name: here all bdevs have the same.
pub fn product_name(_name: &str) -> Option<String> {
    Some("Simulated disk".to_owned())
}

/// Returns what flushed data of a bdev survives: here everything.
pub fn survives(_product: &str, _write_cache: bool) -> Option<Survives> {
    Some(Survives::MachineRestart)
}

/// Returns the module that has claimed the bdev: here there are no other modules.
pub fn claimed_by(_name: &str) -> Option<String> {
    None
}

/// An open bdev.
pub struct Desc {
    process: u32,
    id: u64,
}

/// A reference to an open bdev for other threads.
#[derive(Clone)]
pub struct DescRef {
    process: u32,
    id: u64,
}

impl Desc {
    /// Opens a bdev by name. From then on, `on_event` is called on this thread.
    pub fn open(name: &str, write: bool, on_event: impl Fn(BdevEvent) + 'static) -> Result<Desc> {
        let on_event: OnEvent = Rc::new(on_event);
        with(|w| {
            let thread = w.current_thread().ok_or(Errno::ESRCH)?;
            let process = w.current_process().ok_or(Errno::ESRCH)?;
            let id = w.id();
            let descs = w.slots.get::<Descs>();
            let backing = *descs.bdevs.get(&(process, name.to_owned())).ok_or(Errno::ENODEV)?;
            let (name, on_event) = (name.to_owned(), Some(Rc::clone(&on_event)));
            descs.open.insert(
                (process, id),
                OpenDesc { name, backing, write, is_removed: false, thread, on_event, holders: 1 },
            );
            Ok(Desc { process, id })
        })
    }

    /// Returns the bdev's current properties.
    pub fn info(&self) -> BdevInfo {
        let info = with(|w| {
            let desc = w.slots.get::<Descs>().open.get(&(self.process, self.id))?;
            let (name, backing) = (desc.name.clone(), desc.backing);
            read(w, &name, backing)
        });
        info.expect("an open bdev is there")
    }

    /// Returns a reference from which any thread can create a channel.
    pub fn handle(&self) -> DescRef {
        DescRef { process: self.process, id: self.id }
    }
}

impl Drop for Desc {
    fn drop(&mut self) {
        let mut on_event = None;
        with_in_drop(|w| {
            let desc = w.slots.get::<Descs>().open.get_mut(&(self.process, self.id));
            on_event = desc.and_then(|desc| desc.on_event.take());
            release(w, self.process, self.id);
        });
        drop(on_event);
    }
}

impl DescRef {
    /// Returns a channel for I/O from this SPDK thread. `ENODEV`: the [`Desc`] is gone.
    pub fn channel(&self) -> Result<BackendChannel> {
        with(|w| {
            let thread = w.current_thread().ok_or(Errno::ESRCH)?;
            let desc = w.slots.get::<Descs>().open.get(&(self.process, self.id));
            let desc = desc.filter(|desc| desc.on_event.is_some()).ok_or(Errno::ENODEV)?;
            let (store, write) = (desc.backing.store, desc.write);
            let required_alignment = 1 << desc.backing.required_alignment_log2;
            let block_size = store::config(w, store).ok_or(Errno::ENODEV)?.block_size;
            let share = Share::new(w, self.process, self.id);
            Ok(BackendChannel { share, store, block_size, required_alignment, write, thread })
        })
    }
}

/// Gives a process a bdev of this name, backed by `store`, that supports these kinds of I/O and
/// requires this alignment of data in memory, as a power of two.
pub fn give(store: u32, process: u32, name: &str, supports: IoTypes, required_alignment_log2: u8) {
    let backing = Backing { store, supports, required_alignment_log2 };
    with(|w| w.slots.get::<Descs>().bdevs.insert((process, name.to_owned()), backing));
}

/// Reports an event to everybody who has a process's bdev open.
fn tell(process: u32, name: &str, event: BdevEvent) {
    let who: Vec<(u64, OnEvent)> = with(|w| {
        let open = &w.slots.get::<Descs>().open;
        let of = open.iter().filter(|((owner, _), desc)| *owner == process && desc.name == name);
        of.filter_map(|(_, desc)| Some((desc.thread, desc.on_event.clone()?))).collect()
    });
    for (thread, on_event) in who {
        process::on(thread, move || on_event(event));
    }
}

/// Reports that the store behind a bdev has another size now.
pub fn resized(process: u32, name: &str) {
    tell(process, name, BdevEvent::Resize);
}

/// Removes a bdev: nobody can open it any more, and those who have it open are told.
pub fn remove(process: u32, name: &str) {
    with(|w| {
        let descs = w.slots.get::<Descs>();
        descs.bdevs.remove(&(process, name.to_owned()));
        let open = descs.open.iter_mut().filter(|((owner, _), desc)| *owner == process && desc.name == name);
        open.for_each(|(_, desc)| desc.is_removed = true);
    });
    tell(process, name, BdevEvent::Remove);
}

/// Returns how many descriptors, channels and I/Os of backends a process has open.
pub fn open_count(process: u32) -> usize {
    with(|w| {
        let open = &w.slots.get::<Descs>().open;
        open.iter().filter(|((owner, _), _)| *owner == process).map(|(_, desc)| desc.holders).sum()
    })
}
