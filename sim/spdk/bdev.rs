//! Using a bdev: looking it up, opening it, events.

use std::rc::Rc;

pub use spdk_contract::bdev::{BdevEvent, BdevInfo, IoTypes};
use world::store;
use world::{World, process, with, with_in_drop};

pub use crate::backend::{BackendChannel, BackendDone, BackendIo, IoStatus};
use crate::desc::{Backing, Descs, OnEvent, OpenDesc, Share, release};
use crate::disks::Disks;
use crate::errno::{Errno, Result};

/// Blocks of one compare-and-write.
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
        required_alignment_log2: 0,
        acwu: ACWU,
        write_cache: config.write_cache,
        md_size: 0,
        supports: backing.supports,
    })
}

/// Looks a bdev up by name without opening it.
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

/// Returns what kind of bdev it is: all are of one kind here.
pub fn product_name(_name: &str) -> Option<String> {
    Some("Simulated disk".to_owned())
}

/// Returns the module that has claimed a bdev: there are no other modules here.
pub fn claimed_by(_name: &str) -> Option<String> {
    None
}

/// An open bdev.
pub struct Desc {
    process: u32,
    id: u64,
}

/// An open bdev as other threads see it.
#[derive(Clone)]
pub struct DescRef {
    process: u32,
    id: u64,
}

impl Desc {
    /// Opens a bdev by name, and calls `on_event` on this thread from then on.
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

    /// Returns what SPDK says about the bdev now.
    pub fn info(&self) -> BdevInfo {
        let info = with(|w| {
            let desc = w.slots.get::<Descs>().open.get(&(self.process, self.id))?;
            let (name, backing) = (desc.name.clone(), desc.backing);
            read(w, &name, backing)
        });
        info.expect("an open bdev is there")
    }

    /// For making channels on any thread.
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
            let block_size = store::config(w, store).ok_or(Errno::ENODEV)?.block_size;
            let share = Share::new(w, self.process, self.id);
            Ok(BackendChannel { share, store, block_size, write, thread })
        })
    }
}

/// A process has a bdev of this name, with that store behind it, which can do these things.
pub fn give(store: u32, process: u32, name: &str, supports: IoTypes) {
    with(|w| {
        w.slots.get::<Descs>().bdevs.insert((process, name.to_owned()), Backing { store, supports });
    });
}

/// Tells those who have a bdev of a process open.
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

/// The store of a bdev has another size now.
pub fn resized(process: u32, name: &str) {
    tell(process, name, BdevEvent::Resize);
}

/// A bdev goes: nobody can open it any more, and those who have it open are told.
pub fn remove(process: u32, name: &str) {
    with(|w| {
        let descs = w.slots.get::<Descs>();
        descs.bdevs.remove(&(process, name.to_owned()));
        let open = descs.open.iter_mut().filter(|((owner, _), desc)| *owner == process && desc.name == name);
        open.for_each(|(_, desc)| desc.is_removed = true);
    });
    tell(process, name, BdevEvent::Remove);
}

/// Returns how many descriptors, channels and I/Os a process has open.
pub fn open_count(process: u32) -> usize {
    with(|w| {
        let open = &w.slots.get::<Descs>().open;
        open.iter().filter(|((owner, _), _)| *owner == process).map(|(_, desc)| desc.holders).sum()
    })
}
