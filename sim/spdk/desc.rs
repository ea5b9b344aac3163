//! Bdevs in front of the world's stores, and the descriptors of those who have them open.

use std::any::Any;
use std::collections::BTreeMap;
use std::rc::Rc;

use spdk_contract::bdev::{BdevEvent, IoTypes};
use world::slots::Slot;
use world::{World, with, with_in_drop};

pub(crate) type OnEvent = Rc<dyn Fn(BdevEvent)>;

/// What backs a bdev.
#[derive(Clone, Copy)]
pub(crate) struct Backing {
    pub store: u32,
    pub supports: IoTypes,
    /// The alignment of data in memory that the bdev requires, as a power of two.
    pub required_alignment_log2: u8,
}

pub(crate) struct OpenDesc {
    pub name: String,
    pub backing: Backing,
    pub write: bool,
    pub is_removed: bool,
    pub thread: u64,
    /// The owner's closure; `None` once the owner has closed the descriptor.
    pub on_event: Option<OnEvent>,
    /// The number of holders: the owner, channels, and I/O in progress.
    pub holders: usize,
}

/// The bdevs and descriptors of all processes.
#[derive(Default)]
pub(crate) struct Descs {
    /// The bdevs, by process and name.
    pub bdevs: BTreeMap<(u32, String), Backing>,
    /// The descriptors, by process and number.
    pub open: BTreeMap<(u32, u64), OpenDesc>,
}

impl Slot for Descs {
    fn take(&mut self, process: u32) -> Option<Box<dyn Any>> {
        self.bdevs.retain(|(owner, _), _| *owner != process);
        let gone: Vec<OpenDesc> =
            self.open.extract_if(.., |(owner, _), _| *owner == process).map(|(_, desc)| desc).collect();
        Some(Box::new(gone))
    }
}

/// One holder of a descriptor.
pub(crate) struct Share {
    process: u32,
    desc: u64,
}

impl Share {
    /// Adds a holder to a descriptor, if the descriptor exists.
    pub fn new(w: &mut World, process: u32, desc: u64) -> Share {
        if let Some(desc) = w.slots.get::<Descs>().open.get_mut(&(process, desc)) {
            desc.holders += 1;
        }
        Share { process, desc }
    }

    /// Returns whether the owner was told that the bdev is being removed.
    pub fn is_removed(&self, w: &mut World) -> bool {
        w.slots.get::<Descs>().open.get(&(self.process, self.desc)).is_some_and(|desc| desc.is_removed)
    }

    /// Adds another holder.
    pub fn again(&self) -> Share {
        with(|w| Share::new(w, self.process, self.desc))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        with_in_drop(|w| release(w, self.process, self.desc));
    }
}

/// Removes a holder. The last one takes the descriptor with it.
pub(crate) fn release(w: &mut World, process: u32, id: u64) {
    let descs = &mut w.slots.get::<Descs>().open;
    let Some(desc) = descs.get_mut(&(process, id)) else { return };
    desc.holders -= 1;
    if desc.holders == 0 {
        descs.remove(&(process, id));
    }
}
