//! The devices of a mirror: how they are opened, closed, and looked for while they are not there.

use std::rc::Rc;

use dst_mirror::{Device, Input};
use spdk::bdev::{BdevEvent, BdevInfo, Desc};
use spdk::clock::now_us;

use crate::device::{Backing, OpenDevice, Place, Standing, cannot_open, check_suitable};
use crate::error::Error;
use crate::mirror::Mirror;

/// How long another module may examine a new bdev before a mirror's creation fails, µs. An
/// examination reads some blocks.
pub(crate) const EXAMINATION_US: u64 = 2_000_000;

impl Mirror {
    /// Opens the bdev of a device that waits, without telling the rules.
    ///
    /// # Errors
    /// The bdev is not there, is in use elsewhere, or is not suitable.
    pub(crate) fn open(self: &Rc<Self>, device: Device) -> Result<(), Error> {
        let wanted = match &self.places.borrow()[device.index()] {
            Some(Place { wanted, backing: Backing::Waiting { .. }, .. }) => wanted.clone(),
            _ => return Ok(()),
        };
        let info = wanted.find().ok_or_else(|| Error::NoBdev(wanted.text.clone()))?;
        check_suitable(&info)?;
        // The operator may have named a bdev by its name and by its UUID.
        self.check_unique(&info)?;
        let promised = self.promised.get().filter(|_| device != Device::WITNESS);
        if let Some(promised) = promised {
            promised.check(&info, 1 << info.required_alignment_log2)?;
        }
        let mirror = Rc::downgrade(self);
        let on_event = move |event| {
            if let Some(mirror) = mirror.upgrade() {
                mirror.device_event(device, event);
            }
        };
        let desc = Desc::open_alone(&info.name, on_event)
            .map_err(|errno| cannot_open(&wanted.text, &info.name, errno))?;
        let open = OpenDevice::new(desc, self.rules.borrow().requests_max() as usize)?;
        if let Some(promised) = promised {
            // The opened bdev may require more than it said.
            promised.check(&info, open.required_alignment())?;
        }
        self.replace(device, Backing::Open(Rc::new(open)));
        Ok(())
    }

    /// Checks that a bdev is neither the mirror's own nor one of its open devices.
    fn check_unique(&self, info: &BdevInfo) -> Result<(), Error> {
        let unsuitable = |why| Err(Error::Unsuitable { name: info.name.clone(), why });
        if info.name == self.name() {
            return unsuitable("it is the mirror itself, or has its name");
        }
        let is_open = |place: &Place| match &place.backing {
            Backing::Open(open) | Backing::Leaving { open, .. } => open.info.name == info.name,
            Backing::Waiting { .. } => false,
        };
        if self.places.borrow().iter().flatten().any(is_open) {
            return unsuitable("it is named twice, by its name and by its UUID or an alias");
        }
        Ok(())
    }

    /// Opens the bdev of a device that waits, if the bdev can be had, and tells the rules.
    pub(crate) fn try_open(self: &Rc<Self>, device: Device) {
        match self.open(device) {
            Ok(()) => self.tell_opened(device),
            Err(error) => {
                let now = error.to_string();
                let mut places = self.places.borrow_mut();
                if let Some(Place { backing: Backing::Waiting { why }, .. }) = &mut places[device.index()]
                    && *why != now
                {
                    if !matches!(error, Error::NoBdev(_)) {
                        spdk::warn!("DST mirror {}: {now}", self.name());
                    }
                    *why = now;
                }
            }
        }
    }

    /// Opens, for a creation, a device that another module had open, most likely to examine it. If
    /// that use does not end soon, the creation fails.
    pub(crate) fn open_later(self: &Rc<Self>, device: Device, now: u64) {
        match self.open(device) {
            Ok(()) => self.tell_opened(device),
            Err(Error::InUse { .. }) if now.saturating_sub(self.began_us) < EXAMINATION_US => {}
            Err(error) => self.give_up(error),
        }
    }

    /// Tells the rules of a device that is open, unless the devices are still being taken over.
    pub(crate) fn tell_opened(self: &Rc<Self>, device: Device) {
        if self.is_taking() {
            return;
        }
        let opened = match &self.places.borrow()[device.index()] {
            Some(Place { backing: Backing::Open(open), .. }) => {
                let (blocks, block_size) = (open.info.num_blocks, open.info.block_size);
                Input::Opened { device, blocks, block_size }
            }
            _ => return,
        };
        self.tell(opened);
    }

    /// Returns the devices that wait for their bdevs.
    pub(crate) fn waiting_devices(&self) -> Vec<Device> {
        let places = self.places.borrow();
        let is_waiting = |device: &Device| {
            let place = places[device.index()].as_ref();
            place.is_some_and(|place| {
                matches!(place.backing, Backing::Waiting { .. }) && place.standing != Standing::Dropped
            })
        };
        if self.wants_devices() { Device::all().filter(is_waiting).collect() } else { Vec::new() }
    }

    /// A bdev has appeared. No module has read from it yet.
    pub(crate) fn bdev_appeared(self: &Rc<Self>, bdev_name: &str) {
        for device in self.waiting_devices() {
            let wanted = self.places.borrow()[device.index()].as_ref().map(|place| place.wanted.clone());
            let found = wanted.and_then(|wanted| wanted.find());
            if found.is_some_and(|info| info.name == bdev_name) && !self.is_being_opened(device) {
                self.try_open(device);
            }
        }
    }

    /// Something happened to the bdev of a device.
    pub(crate) fn device_event(self: &Rc<Self>, device: Device, event: BdevEvent) {
        let name = self.name();
        match event {
            BdevEvent::Remove => {
                spdk::warn!("DST mirror {name}: bdev `{}` is removed", self.shown(device));
                if self.leave(device, true) {
                    self.tell(Input::Gone { device });
                    self.close_if_idle(device);
                }
            }
            BdevEvent::Resize => {
                let blocks = match &self.places.borrow()[device.index()] {
                    Some(Place { backing: Backing::Open(open), .. }) => open.blocks_now(),
                    _ => return,
                };
                spdk::notice!(
                    "DST mirror {name}: bdev `{}` has {blocks} blocks now; the mirror keeps its size",
                    self.shown(device)
                );
            }
        }
    }

    /// Begins to close a device. Returns true if it was open.
    fn leave(&self, device: Device, is_removed: bool) -> bool {
        let mut places = self.places.borrow_mut();
        let Some(Place { backing, .. }) = &mut places[device.index()] else { return false };
        match std::mem::replace(backing, Backing::Waiting { why: String::new() }) {
            Backing::Open(open) => {
                *backing = Backing::Leaving { open, is_removed, since_us: now_us(), was_reset: false };
                self.end_waiting(device);
                true
            }
            Backing::Leaving { open, is_removed: before, since_us, was_reset } => {
                *backing = Backing::Leaving { open, is_removed: is_removed || before, since_us, was_reset };
                false
            }
            waiting @ Backing::Waiting { .. } => {
                *backing = waiting;
                false
            }
        }
    }

    /// The rules want a device closed.
    pub(crate) fn close(&self, device: Device) {
        self.leave(device, false);
        self.close_if_idle(device);
    }

    /// Closes a device that is to be closed and has no requests left.
    pub(crate) fn close_if_idle(&self, device: Device) {
        let mut places = self.places.borrow_mut();
        let Some(Place { backing, standing, .. }) = &mut places[device.index()] else { return };
        let Backing::Leaving { open, is_removed, .. } = backing else { return };
        if open.in_flight() > 0 {
            return;
        }
        let why = if *is_removed {
            format!("bdev `{}` was removed", open.info.name)
        } else {
            format!("bdev `{}` was given up, and is tried again", open.info.name)
        };
        let is_dropped = *standing == Standing::Dropped;
        let closed = std::mem::replace(backing, Backing::Waiting { why });
        if is_dropped {
            places[device.index()] = None;
        }
        drop(places);
        // This may run inside the device's own event callback, which permits the drop.
        drop(closed);
    }

    /// Ends the requests that a removed bdev does not end by itself, since SPDK waits for them:
    /// resets the bdev once when they have taken `member_timeout_ms`.
    pub(crate) fn hurry_leaving(self: &Rc<Self>, now: u64) {
        let limit_us = u64::from(self.options().member_timeout_ms) * 1000;
        if limit_us == 0 {
            return;
        }
        for device in Device::all() {
            let is_late = match &self.places.borrow()[device.index()] {
                Some(Place { backing: Backing::Leaving { is_removed, since_us, .. }, .. }) => {
                    *is_removed && now.saturating_sub(*since_us) >= limit_us
                }
                _ => false,
            };
            if is_late {
                self.reset_leaving(device);
            }
        }
    }

    /// Ends the requests for which a reset of the mirror has waited for `member_timeout_ms`: those
    /// of the last member in sync, which the rules never give up. They fail.
    pub(crate) fn hurry_resets(self: &Rc<Self>, now: u64) {
        let limit_us = u64::from(self.options().member_timeout_ms) * 1000;
        if limit_us == 0 || !self.users.borrow_mut().is_reset_late(now, limit_us) {
            return;
        }
        for device in Device::all() {
            if self.open_or_leaving(device).is_some_and(|open| open.in_flight() > 0) {
                let bdev = self.shown(device);
                spdk::warn!("DST mirror {}: bdev `{bdev}` is reset, as the mirror is", self.name());
                self.end_requests(device);
            }
        }
    }

    /// Closes all devices. Those that still have requests are reset to end them.
    pub(crate) fn close_all(self: &Rc<Self>) {
        for device in Device::all() {
            self.close(device);
            self.reset_leaving(device);
        }
    }

    /// Resets a device that is to be closed and still has requests, once.
    fn reset_leaving(self: &Rc<Self>, device: Device) {
        let mut places = self.places.borrow_mut();
        let Some(Place { backing: Backing::Leaving { was_reset, .. }, .. }) = &mut places[device.index()]
        else {
            return;
        };
        if !std::mem::replace(was_reset, true) {
            drop(places);
            let bdev = self.shown(device);
            spdk::warn!("DST mirror {}: bdev `{bdev}` still has requests and is reset", self.name());
            self.end_requests(device);
        }
    }

    /// Returns whether no device is open, and all claims are given back.
    pub(crate) fn is_closed(&self) -> bool {
        let places = self.places.borrow();
        places.iter().flatten().all(|place| {
            let found = place.wanted.find();
            matches!(place.backing, Backing::Waiting { .. })
                && found.is_none_or(|info| spdk::bdev::claimed_by(&info.name).is_none())
        })
    }

    /// Returns the device that is this bdev, open or not, since news of a bdev come only once.
    pub(crate) fn device_of(&self, bdev_name: &str) -> Option<Device> {
        let places = self.places.borrow();
        Device::all().find(|device| match &places[device.index()] {
            Some(Place { backing: Backing::Open(open) | Backing::Leaving { open, .. }, .. }) => {
                open.info.name == bdev_name
            }
            Some(Place { wanted, backing: Backing::Waiting { .. }, .. }) => {
                wanted.find().is_some_and(|info| info.name == bdev_name)
            }
            None => false,
        })
    }

    /// Returns whether a saved configuration creates all present devices before it comes to the
    /// mirror's bdev. A saved configuration creates DST bdevs before all others.
    pub(crate) fn comes_after_devices(&self) -> bool {
        let places = self.places.borrow();
        places.iter().flatten().all(|place| match &place.backing {
            Backing::Open(open) | Backing::Leaving { open, .. } => {
                let bdev = &open.info.name;
                spdk::bdev::product_name(bdev).is_some_and(|product| product == "DST Disk")
                    || spdk::bdev::comes_before(bdev, self.name())
            }
            Backing::Waiting { .. } => true,
        })
    }

    fn replace(&self, device: Device, with: Backing) {
        if let Some(place) = &mut self.places.borrow_mut()[device.index()] {
            place.backing = with;
        }
    }

    /// Returns a device's name as the operator gave it.
    pub(crate) fn shown(&self, device: Device) -> String {
        let places = self.places.borrow();
        places[device.index()].as_ref().map_or_else(|| device.to_string(), |place| place.wanted.text.clone())
    }
}
