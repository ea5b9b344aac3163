//! Using a bdev: looking it up, opening it, events.

use std::rc::Rc;

pub use spdk_contract::bdev::{BdevEvent, BdevInfo, IoTypes};

use crate::backend::Share;
pub use crate::backend::{BackendDone, BackendIo, Channel, IoStatus};
use crate::errno::{Errno, Result};
use crate::process;
use crate::world::{World, with, with_in_drop};

/// Blocks of one compare-and-write.
const ACWU: u32 = 4;

fn read(w: &World, name: &str, store: u32) -> Option<BdevInfo> {
    let config = &w.stores.get(&store)?.config;
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
        supports: config.supports,
    })
}

/// Looks a bdev up by name without opening it.
pub fn info(name: &str) -> Option<BdevInfo> {
    with(|w| {
        let process = w.current_process()?;
        if let Some(&store) = w.processes.get(&process)?.bdevs.get(name) {
            return read(w, name, store);
        }
        let disk = w.disks.values().find(|disk| disk.process == process && disk.info.name == name)?;
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

/// The module that has claimed a bdev: there are no other modules here.
pub fn claimed_by(_name: &str) -> Option<String> {
    None
}

type OnEvent = Rc<dyn Fn(BdevEvent)>;

pub(crate) struct OpenDesc {
    name: String,
    store: u32,
    write: bool,
    thread: u64,
    on_event: Option<OnEvent>,
    holders: usize,
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
            let thread = w.current.ok_or(Errno::ESRCH)?;
            let process = w.current_process().ok_or(Errno::ESRCH)?;
            let id = w.id();
            let found = w.processes.get_mut(&process).ok_or(Errno::ESRCH)?;
            let store = *found.bdevs.get(name).ok_or(Errno::ENODEV)?;
            let name = name.to_owned();
            let desc =
                OpenDesc { name, store, write, thread, on_event: Some(Rc::clone(&on_event)), holders: 1 };
            found.descs.insert(id, desc);
            Ok(Desc { process, id })
        })
    }

    /// What SPDK says about the bdev now.
    pub fn info(&self) -> BdevInfo {
        let info = with(|w| {
            let desc = w.processes.get(&self.process)?.descs.get(&self.id)?;
            read(w, &desc.name, desc.store)
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
            let desc = w.processes.get_mut(&self.process).and_then(|p| p.descs.get_mut(&self.id));
            on_event = desc.and_then(|desc| desc.on_event.take());
            release(w, self.process, self.id);
        });
        drop(on_event);
    }
}

impl DescRef {
    /// A channel for I/O from this SPDK thread. `ENODEV`: the [`Desc`] is gone.
    pub fn channel(&self) -> Result<Channel> {
        with(|w| {
            let thread = w.current.ok_or(Errno::ESRCH)?;
            let found = w.processes.get_mut(&self.process).ok_or(Errno::ENODEV)?;
            let desc = found.descs.get_mut(&self.id).filter(|d| d.on_event.is_some()).ok_or(Errno::ENODEV)?;
            desc.holders += 1;
            let (store, write) = (desc.store, desc.write);
            let block_size = w.stores.get(&store).ok_or(Errno::ENODEV)?.config.block_size;
            let share = Share { process: self.process, desc: self.id };
            Ok(Channel { share, store, block_size, write, thread })
        })
    }
}

pub(crate) fn hold(w: &mut World, process: u32, desc: u64) {
    let found = w.processes.get_mut(&process).and_then(|p| p.descs.get_mut(&desc));
    if let Some(desc) = found {
        desc.holders += 1;
    }
}

pub(crate) fn release(w: &mut World, process: u32, id: u64) {
    let Some(found) = w.processes.get_mut(&process) else { return };
    let Some(desc) = found.descs.get_mut(&id) else { return };
    desc.holders -= 1;
    if desc.holders == 0 {
        found.descs.remove(&id);
    }
}

/// Tells those who have a bdev of a process open.
fn tell(process: u32, name: &str, event: BdevEvent) {
    let who: Vec<(u64, OnEvent)> = with(|w| {
        let Some(found) = w.processes.get(&process) else { return Vec::new() };
        let of = found.descs.values().filter(|desc| desc.name == name);
        of.filter_map(|desc| Some((desc.thread, desc.on_event.clone()?))).collect()
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
    tell(process, name, BdevEvent::Remove);
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.bdevs.remove(name);
        }
    });
}

/// How many descriptors and channels a process has open.
pub fn open_count(process: u32) -> usize {
    with(|w| w.processes.get(&process).map_or(0, |p| p.descs.values().map(|d| d.holders).sum()))
}
