//! Members and the witness that the operator adds and removes while the mirror runs: one at a time.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use dst_mirror::report::{Condition, MemberReport};
use dst_mirror::{Device, Input, MEMBERS_MAX, MemberId};
use spdk::clock::now_us;

use crate::changing::{ChangeDone, Changing};
use crate::device::{Backing, Place, Standing, Wanted};
use crate::devices::EXAMINATION_US;
use crate::error::Error;
use crate::life::Life;
use crate::mirror::Mirror;

/// What the operator means by the name of a member.
enum Found {
    Member {
        id: MemberId,
        /// The device, if the member has one.
        device: Option<Device>,
    },
    /// A device that belongs to no member.
    Outsider(Device),
}

impl Mirror {
    /// Adds a member. `done` is called when the change counts, or has failed.
    pub fn add_member(self: &Rc<Self>, member: &str, force: bool, done: ChangeDone) {
        if let Some(device) = self.unused_device(member) {
            *self.changing.borrow_mut() = Some(Changing::Adding { device, done });
            return self.begin_adding(device, force, true);
        }
        match self.reserve_place(member) {
            Ok(device) => {
                let since_us = now_us();
                *self.changing.borrow_mut() = Some(Changing::Opening { device, force, since_us, done });
                self.open_new_member(since_us);
            }
            Err(error) => done(Err(error)),
        }
    }

    /// Returns the open device of this name that belongs to no member, if there is one: the device
    /// of a removed member that a saved configuration still named, for instance.
    fn unused_device(&self, member: &str) -> Option<Device> {
        self.check_changeable().ok()?;
        let report = self.rules.borrow().report();
        let places = self.places.borrow();
        let is_it = |device: &Device| match &places[device.index()] {
            Some(Place { wanted, backing: Backing::Open(_), .. }) => wanted.text == member,
            _ => false,
        };
        let found = Device::all().find(is_it).filter(|device| *device != Device::WITNESS)?;
        let is_used = |of: &MemberReport| of.device == Some(found) && of.condition != Condition::Detached;
        (!report.members.iter().any(is_used)).then_some(found)
    }

    /// Adds a witness. `done` is called when the change counts, or has failed.
    pub fn add_witness(self: &Rc<Self>, witness: &str, force: bool, done: ChangeDone) {
        match self.reserve_witness(witness) {
            Ok(true) => {
                let device = Device::WITNESS;
                *self.changing.borrow_mut() = Some(Changing::Adding { device, done });
                self.begin_adding(device, force, true);
            }
            Ok(false) => {
                let (device, since_us) = (Device::WITNESS, now_us());
                *self.changing.borrow_mut() = Some(Changing::Opening { device, force, since_us, done });
                self.open_new_member(since_us);
            }
            Err(error) => done(Err(error)),
        }
    }

    /// Takes the place of the witness for a device. Returns whether the device is open there already, as
    /// one that was removed and that a saved configuration still named.
    fn reserve_witness(&self, witness: &str) -> Result<bool, Error> {
        self.check_changeable()?;
        let refused = |why: String| Err(Error::Change { name: self.name().to_owned(), why });
        if self.rules.borrow().report().witness.is_some() {
            return refused("it has a witness: remove that first".to_owned());
        }
        let mut places = self.places.borrow_mut();
        let (members, own) = places.split_at_mut(Device::WITNESS.index());
        if members.iter().flatten().any(|place| place.wanted.text == witness) {
            return refused(format!("`{witness}` is one of its devices already"));
        }
        match &own[0] {
            Some(Place { wanted, backing: Backing::Open(_), .. }) if wanted.text == witness => Ok(true),
            Some(Place { standing: Standing::Dropped, .. }) => {
                refused("the bdev of the witness that was removed is being closed: try again".to_owned())
            }
            Some(Place { wanted, .. }) => {
                let named = &wanted.text;
                refused(format!("`{named}` is named as the witness, and is not used: remove that first"))
            }
            None => {
                let why = Error::NoBdev(witness.to_owned()).to_string();
                let (wanted, backing) = (Wanted::new(witness), Backing::Waiting { why });
                own[0] = Some(Place { wanted, backing, standing: Standing::Candidate });
                Ok(false)
            }
        }
    }

    /// Removes the witness, or gives back a device that was named as the witness and is not. `done` is called
    /// when the change counts, or has failed.
    pub fn remove_witness(self: &Rc<Self>, done: ChangeDone) {
        if let Err(error) = self.check_changeable() {
            return done(Err(error));
        }
        let has_witness = self.rules.borrow().report().witness.is_some();
        let is_named = self.places.borrow()[Device::WITNESS.index()].is_some();
        let device = is_named.then_some(Device::WITNESS);
        match device {
            Some(device) if !has_witness => {
                self.forget_device(device);
                done(Ok(()));
            }
            _ => {
                *self.changing.borrow_mut() = Some(Changing::Removing { device, done });
                self.tell(Input::RemoveWitness);
            }
        }
    }

    /// Has the rules add a member or the witness. `is_open` says whether the rules know that the device is
    /// open.
    fn begin_adding(self: &Rc<Self>, device: Device, force: bool, is_open: bool) {
        let name = self.shown(device);
        self.tell(match device {
            Device::WITNESS => Input::AddWitness { name, force, is_open },
            _ => Input::AddMember { device, name, force, is_open },
        });
        self.reserve_requests();
    }

    /// Finds a place for the device of a new member.
    fn reserve_place(&self, member: &str) -> Result<Device, Error> {
        self.check_changeable()?;
        let name = self.name().to_owned();
        let mut places = self.places.borrow_mut();
        if places.iter().flatten().any(|place| place.wanted.text == member) {
            let why = format!("`{member}` is one of its devices already");
            return Err(Error::Change { name, why });
        }
        let free = (0..MEMBERS_MAX).find(|&at| places[at].is_none());
        let at = free.ok_or_else(|| {
            let why = format!(
                "it has {MEMBERS_MAX} devices, which is the most there can be: remove a member first"
            );
            Error::Change { name, why }
        })?;
        let why = Error::NoBdev(member.to_owned()).to_string();
        let (wanted, backing) = (Wanted::new(member), Backing::Waiting { why });
        places[at] = Some(Place { wanted, backing, standing: Standing::Candidate });
        Ok(Device(at as u8))
    }

    fn check_changeable(&self) -> Result<(), Error> {
        let name = self.name().to_owned();
        if !matches!(*self.life.borrow(), Life::Running(_)) {
            return Err(Error::Change { name, why: "it does not run".to_owned() });
        }
        match *self.changing.borrow() {
            Some(_) => Err(Error::Changing(name)),
            None => Ok(()),
        }
    }

    /// Returns whether a device is being opened for a new member or witness, which the rules do not know yet.
    pub(crate) fn is_being_opened(&self, device: Device) -> bool {
        matches!(&*self.changing.borrow(), Some(Changing::Opening { device: of, .. }) if *of == device)
    }

    /// Opens the bdev of a new member or witness, and has the rules add it. Another module may have
    /// the bdev open, most likely to examine it; if that does not end soon, the addition fails.
    pub(crate) fn open_new_member(self: &Rc<Self>, now: u64) {
        let Some(Changing::Opening { device, since_us, .. }) = *self.changing.borrow() else { return };
        let result = match self.open(device) {
            Err(Error::InUse { .. }) if now.saturating_sub(since_us) < EXAMINATION_US => return,
            result => result,
        };
        let Some(Changing::Opening { force, done, .. }) = self.changing.take() else { return };
        if let Err(error) = result {
            self.forget_device(device);
            return done(Err(error));
        }
        *self.changing.borrow_mut() = Some(Changing::Adding { device, done });
        self.begin_adding(device, force, false);
        self.tell_opened(device);
    }

    /// Reserves room for the maximum number of requests that can now be under way at once.
    fn reserve_requests(&self) {
        let max = self.rules.borrow().requests_max() as usize;
        let (mut at_once, mut idle) = (self.at_once.borrow_mut(), self.idle.borrow_mut());
        let (missing, missing_idle) = (max - at_once.len().min(max), max - idle.len().min(max));
        at_once.reserve(missing);
        idle.reserve(missing_idle);
    }

    /// Removes a member. `done` is called when the change counts, or has failed.
    pub fn remove_member(self: &Rc<Self>, member: &str, done: ChangeDone) {
        match self.check_changeable().and_then(|()| self.find_member(member)) {
            Ok(Found::Member { id, device }) => {
                *self.changing.borrow_mut() = Some(Changing::Removing { device, done });
                self.tell(Input::RemoveMember { id });
            }
            Ok(Found::Outsider(device)) => {
                self.forget_device(device);
                self.count_members();
                done(Ok(()));
            }
            Err(error) => done(Err(error)),
        }
    }

    /// Returns the member that has this id or this device, or had this name when it joined;
    /// otherwise a device of this name that belongs to no member, since a configuration that was
    /// saved earlier may still name a member that was removed.
    fn find_member(&self, member: &str) -> Result<Found, Error> {
        let name = self.name().to_owned();
        let report = self.rules.borrow().report();
        let members: Vec<&MemberReport> =
            report.members.iter().filter(|member| member.condition != Condition::Detached).collect();
        let places = self.places.borrow();
        let of_text = |text: &str| {
            let is_named = |device: &Device| {
                places[device.index()].as_ref().is_some_and(|place| place.wanted.text == text)
            };
            Device::all().find(is_named).filter(|device| *device != Device::WITNESS)
        };
        let rules = self.rules.borrow();
        let named = of_text(member);
        let by_id = members.iter().find(|found| found.id.to_string() == member);
        let by_device = || {
            let device = named?;
            members.iter().find(|found| found.device == Some(device))
        };
        let found = match by_id.or_else(by_device) {
            Some(found) => found,
            // The device may belong to another member than its name says.
            None if named.is_some_and(|device| rules.is_being_read(device)) => {
                let why =
                    format!("`{member}` is being read: try again in a moment, or name the member by its id");
                return Err(Error::Change { name, why });
            }
            None => {
                // A device that is not there may belong to any member of which no device is known.
                let are_all_known = members.iter().all(|member| member.device.is_some());
                let outsider = named.filter(|&device| are_all_known || rules.is_outsider(device));
                let mut named = members.iter().filter(|found| found.name == member);
                match (named.next(), named.next(), outsider) {
                    (Some(found), None, _) => found,
                    (Some(_), Some(_), _) => {
                        let why = format!("several of its members are named `{member}`: name one by its id");
                        return Err(Error::Change { name, why });
                    }
                    (None, _, Some(device)) => return Ok(Found::Outsider(device)),
                    (None, _, None) => return Err(Error::NoMember { name, member: member.to_owned() }),
                }
            }
        };
        // The device of a member that was missing since the start is known only by the name.
        let is_other = |device: &Device| members.iter().any(|other| other.device == Some(*device));
        let by_name = || {
            [member, &found.name]
                .into_iter()
                .filter_map(of_text)
                .find(|device| !is_other(device) && !rules.is_being_read(*device))
        };
        Ok(Found::Member { id: found.id, device: found.device.or_else(by_name) })
    }

    /// The rules have answered.
    pub(crate) fn changed(self: &Rc<Self>, result: Result<(), String>) {
        let result = result.map_err(|why| Error::Change { name: self.name().to_owned(), why });
        match self.changing.take() {
            Some(Changing::Adding { device, done }) => {
                // The device may belong to a member now although the call has failed.
                let report = self.rules.borrow().report();
                let is_it =
                    |of: &MemberReport| of.device == Some(device) && of.condition != Condition::Detached;
                let is_member = match device {
                    Device::WITNESS => report.witness.is_some(),
                    _ => report.members.iter().any(is_it),
                };
                let standing = self.places.borrow()[device.index()].as_ref().map(|place| place.standing);
                if is_member && let Some(place) = &mut self.places.borrow_mut()[device.index()] {
                    place.standing = Standing::Named;
                } else if standing == Some(Standing::Candidate) {
                    self.forget_device(device);
                }
                self.count_members();
                done(result);
            }
            Some(Changing::Removing { device, done }) => {
                if let Some(device) = device.filter(|_| result.is_ok()) {
                    self.forget_device(device);
                }
                self.count_members();
                done(result);
            }
            opening @ Some(Changing::Opening { .. }) => *self.changing.borrow_mut() = opening,
            None => {}
        }
    }

    fn count_members(&self) {
        self.members.store(self.plan().members.len(), Ordering::Relaxed);
    }

    /// Gives up the addition of a device that the rules do not know yet.
    pub(crate) fn abandon_opening(self: &Rc<Self>) {
        match self.changing.take() {
            Some(Changing::Opening { device, done, .. }) => {
                self.forget_device(device);
                let why = "it is being stopped".to_owned();
                done(Err(Error::Change { name: self.name().to_owned(), why }));
            }
            other => *self.changing.borrow_mut() = other,
        }
    }

    /// Closes a device for good, once its requests have ended. Another device may have its place
    /// then, and the rules must not take what they know of this device for that one's.
    fn forget_device(self: &Rc<Self>, device: Device) {
        let mut is_open = false;
        if let Some(place) = &mut self.places.borrow_mut()[device.index()] {
            place.standing = Standing::Dropped;
            is_open = matches!(place.backing, Backing::Open(_));
        }
        self.close(device);
        if is_open {
            // The rules have not closed it.
            self.tell(Input::Gone { device });
        }
        let place = &mut self.places.borrow_mut()[device.index()];
        if matches!(place, Some(Place { backing: Backing::Waiting { .. }, .. })) {
            *place = None;
        }
    }
}
