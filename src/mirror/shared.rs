//! The devices of a mirror until they are in use: opened, read, found usable or not.

use crate::handles::Device;
use crate::metadata::{Load, Loaded, Loader, MetadataError};
use crate::options::Options;
use crate::requests::{Purpose, Requests};

/// The shortest time in µs after which a device that has failed is read again. It doubles with each
/// further failure up to [`BACKOFF_MAX`], so that a device that fails again and again costs little.
const BACKOFF_MIN: u64 = 1_000_000;

/// The longest such time in µs.
const BACKOFF_MAX: u64 = 60_000_000;

/// The time in µs without a failure after which earlier ones do not count.
const FORGIVEN: u64 = 600_000_000;

/// What is known of a device.
pub(crate) enum Link {
    /// The device is not open.
    Absent,
    /// The device is open, and is not read before this time in µs.
    Waiting(u64),
    /// The metadata are being read.
    Loading(Box<Loader>),
    /// The metadata were read. The device is not in use.
    Known(Result<Box<Loaded>, MetadataError>),
    /// The device is in use.
    InUse,
    /// The device is open, and there is no use for it.
    Unusable(String),
    /// The device is being closed.
    Closing,
}

/// A device.
pub(crate) struct Slot {
    pub(crate) link: Link,
    /// The size in blocks, and that of a block in bytes, when the device was opened last.
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    /// The place of the device in the configuration, while its requests are outstanding and after.
    pub(crate) who: Option<usize>,
    failures: u32,
    failed_at: u64,
}

/// The devices of a mirror, and what else all its parts use.
pub(crate) struct Shared {
    pub(crate) requests: Requests,
    pub(crate) slots: Vec<Slot>,
    pub(crate) options: Options,
    identifiers: Box<dyn FnMut() -> u128>,
}

impl Shared {
    pub(crate) fn new(requests: Requests, options: Options, identifiers: Box<dyn FnMut() -> u128>) -> Shared {
        let absent =
            || Slot { link: Link::Absent, blocks: 0, block_size: 0, who: None, failures: 0, failed_at: 0 };
        let slots = Device::all().map(|_| absent()).collect();
        Shared { requests, slots, options, identifiers }
    }

    /// Returns the time of the last input in µs.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.requests.now
    }

    /// Draws an id that no other thing has.
    pub(crate) fn identifier(&mut self) -> u128 {
        (self.identifiers)()
    }

    pub(crate) fn slot(&mut self, device: Device) -> &mut Slot {
        &mut self.slots[device.index()]
    }

    /// A device was opened.
    pub(crate) fn opened(&mut self, device: Device, blocks: u64, block_size: u32) {
        let now = self.now();
        let slot = self.slot(device);
        if !matches!(slot.link, Link::Absent | Link::Closing) {
            return;
        }
        (slot.blocks, slot.block_size, slot.who) = (blocks, block_size, None);
        let backoff = match slot.failures {
            0 => 0,
            count => (BACKOFF_MIN << (count - 1).min(6)).min(BACKOFF_MAX),
        };
        slot.link = Link::Waiting(slot.failed_at.saturating_add(backoff));
        if backoff == 0 {
            slot.link = Link::Waiting(now);
        }
        self.read_due(device);
    }

    /// A device that could not be reached answers again. If it has failed, it is read again now, and
    /// after [`BACKOFF_MIN`] if that fails, as the first flush after a lost cache does.
    pub(crate) fn reachable(&mut self, device: Device) {
        let now = self.now();
        let slot = self.slot(device);
        match &mut slot.link {
            Link::Waiting(until) => *until = now.min(*until),
            Link::Loading(_) | Link::Closing => {}
            Link::Absent | Link::Known(_) | Link::InUse | Link::Unusable(_) => return,
        }
        (slot.failures, slot.failed_at) = (0, 0);
        self.read_due(device);
    }

    /// Reads the metadata of a device whose time has come.
    pub(crate) fn read_due(&mut self, device: Device) {
        let now = self.now();
        let slot = self.slot(device);
        match slot.link {
            Link::Waiting(until) if until <= now => {}
            _ => return,
        }
        let layout = match device {
            Device::WITNESS => crate::metadata::Layout::witness(slot.blocks, slot.block_size),
            _ => crate::metadata::Layout::member(slot.blocks, slot.block_size),
        };
        match layout {
            Ok(layout) => {
                slot.link = Link::Loading(Box::new(Loader::new(layout)));
                self.load(device);
            }
            Err(error) => self.refuse(device, error.to_string()),
        }
    }

    /// Takes the next step of reading a device's metadata.
    fn load(&mut self, device: Device) {
        let Link::Loading(loader) = &mut self.slots[device.index()].link else { return };
        match loader.step() {
            Load::Flush => self.requests.flush(device, Purpose::Load),
            Load::Read(range) => self.requests.metadata_read(device, range),
            Load::Done(found) => self.slot(device).link = Link::Known(found),
        }
    }

    /// A flush has succeeded that [`Shared::load`] asked for.
    pub(crate) fn flushed(&mut self, device: Device) {
        if let Link::Loading(loader) = &mut self.slots[device.index()].link {
            loader.flushed();
            self.load(device);
        }
    }

    /// Metadata were read that [`Shared::load`] asked for. Returns false if it did not.
    pub(crate) fn supply(&mut self, device: Device, bytes: &[u8]) -> bool {
        let Link::Loading(loader) = &mut self.slots[device.index()].link else { return false };
        loader.supply(bytes);
        self.load(device);
        true
    }

    /// A device is there and is not used.
    pub(crate) fn refuse(&mut self, device: Device, why: String) {
        self.requests.warn(format!("{device} is not used: {why}"));
        self.slot(device).link = Link::Unusable(why);
    }

    /// A device was removed.
    pub(crate) fn gone(&mut self, device: Device) {
        self.slot(device).link = Link::Absent;
    }

    /// Closes a device that has failed. It is read again after a time.
    pub(crate) fn close(&mut self, device: Device) {
        let now = self.now();
        let slot = self.slot(device);
        if matches!(slot.link, Link::Absent | Link::Closing) {
            return;
        }
        let is_forgiven = now.saturating_sub(slot.failed_at) > FORGIVEN;
        slot.failures = if is_forgiven { 1 } else { slot.failures.saturating_add(1) };
        slot.failed_at = now;
        slot.link = Link::Closing;
        self.requests.close(device);
    }

    /// Closes a device for which there is no use any more. What it has failed is forgotten.
    pub(crate) fn part(&mut self, device: Device) {
        let slot = self.slot(device);
        (slot.failures, slot.failed_at) = (0, 0);
        if !matches!(slot.link, Link::Absent | Link::Closing) {
            slot.link = Link::Closing;
            self.requests.close(device);
        }
    }

    /// Closes all devices, which are read again as soon as they are open.
    pub(crate) fn close_all(&mut self) {
        for device in Device::all() {
            if !matches!(self.slot(device).link, Link::Absent | Link::Closing) {
                self.slot(device).link = Link::Closing;
                self.requests.close(device);
            }
        }
    }

    /// Takes what is known of a device, which is in use from now on.
    pub(crate) fn take(&mut self, device: Device, who: usize) {
        let slot = self.slot(device);
        slot.link = Link::InUse;
        slot.who = Some(who);
    }

    /// Returns the next time at which a device is to be read.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let waiting = |slot: &Slot| match slot.link {
            Link::Waiting(until) => Some(until),
            _ => None,
        };
        self.slots.iter().filter_map(waiting).min()
    }
}
