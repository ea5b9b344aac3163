//! A standby takes the devices of a mirror over, in the order of [`Takeover`], and then assembles the mirror.
//!
//! While that goes on, the mirror opens its devices, so that no other module examines them, and its rules
//! hear nothing of them. A device that answers when the mirror is assembled already is taken by the same
//! order. If the takeover is in vain, nothing that it has claimed stays attached.

use std::rc::Rc;

use dst_mirror::Device;
use dst_mirror::takeover::{Standing, Step, Takeover};

use crate::device::{Backing, Places};
use crate::error::Error;
use crate::exports::{exports, standing};
use crate::life::Done;
use crate::mirror::Mirror;

/// Returns how a device stands to this host.
fn standing_of(places: &Places, device: Device) -> Standing {
    let place = places[device.index()].as_ref();
    place.map_or(Standing::Local, |place| standing(&place.wanted.text, || place.wanted.find().is_some()))
}

impl Mirror {
    /// Returns whether the rules hear nothing of the devices, as these are still being taken over.
    pub(crate) fn is_taking(&self) -> bool {
        self.takeover.borrow().as_ref().is_some_and(Takeover::withholds)
    }

    /// Goes on with the takeover, unless only devices that answer later are left to be taken.
    pub(crate) fn take_devices_soon(self: &Rc<Self>, now: u64) {
        if !self.takeover.borrow().as_ref().is_none_or(Takeover::is_over) {
            self.take_devices(now);
        }
    }

    /// Goes on with the takeover.
    pub(crate) fn take_devices(self: &Rc<Self>, now: u64) {
        if !self.wants_devices() {
            return;
        }
        let step = {
            let mut takeover = self.takeover.borrow_mut();
            let Some(takeover) = takeover.as_mut() else { return };
            let places = self.places.borrow();
            takeover.step(now, |device| standing_of(&places, device))
        };
        let name = self.name();
        match step {
            Step::Wait => {}
            Step::Ended => self.end_takeover(Box::new(|| {})),
            Step::Claim { device, after } => {
                let bdev = self.shown(device);
                spdk::notice!("DST mirror {name}: `{bdev}` is taken over, from ownership {after}");
                if let Some(exports) = exports() {
                    (exports.take_over)(&bdev, after);
                }
            }
            Step::Over => {
                spdk::notice!("DST mirror {name}: what can be had of its devices is taken over");
                Device::all().for_each(|device| self.tell_opened(device));
            }
            Step::Lost { device } => {
                let device = self.shown(device);
                self.give_up(Error::NotTaken { name: name.to_owned(), device });
            }
        }
    }

    /// Returns what the takeover waits for.
    pub(crate) fn awaited_for_takeover(&self) -> Option<String> {
        let takeover = self.takeover.borrow();
        let places = self.places.borrow();
        let device = takeover.as_ref()?.waits_for(|device| standing_of(&places, device))?;
        drop(places);
        let is_open = match &self.places.borrow()[device.index()] {
            Some(place) => matches!(place.backing, Backing::Open(_)),
            None => false,
        };
        let what = if is_open { "is not confirmed to be this host's" } else { "is not taken over yet" };
        Some(format!("`{}` {what} (bdev_dst_get_info shows why)", self.shown(device)))
    }

    /// Ends the takeover. A mirror that has not become usable gives everything back that was claimed for
    /// it, another one what it has not got yet: that must not be taken from an owner that comes later.
    /// `done` is called when that is done.
    pub(crate) fn end_takeover(&self, done: Done) {
        let Some(takeover) = self.takeover.take() else { return done() };
        let Some(exports) = exports() else { return done() };
        let keeps = self.number().is_some();
        let places = self.places.borrow();
        let is_given_back = |device: &Device| {
            !keeps || !matches!(standing_of(&places, *device), Standing::Own { .. } | Standing::Local)
        };
        let devices: Vec<Device> = takeover.claimed().filter(is_given_back).collect();
        drop(places);
        let all = Rc::new(LastCall(Some(done)));
        for device in devices {
            let (bdev, all) = (self.shown(device), Rc::clone(&all));
            spdk::notice!(
                "DST mirror {}: bdev `{bdev}`, which was to be taken over, is deleted",
                self.name()
            );
            (exports.give_back)(&bdev, Box::new(move || drop(all)));
        }
    }
}

/// Calls a function when the last reference is dropped.
struct LastCall(Option<Done>);

impl Drop for LastCall {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}
