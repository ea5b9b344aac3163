//! The bdev of a mirror: registered when the rules say so, and the way to its end.

use std::rc::Rc;
use std::sync::Arc;

use dst_mirror::{Device, Input, MirrorId};
use spdk::bdev::IoTypes;
use spdk::bdev_module::{DiskInfo, register};
use spdk::clock::now_us;
use spdk::thread::Thread;

use crate::arrivals;
use crate::device::{Backing, Promised};
use crate::disk::MirrorDisk;
use crate::error::Error;
use crate::life::{Answer, Done, Life};
use crate::mirror::Mirror;

/// How long closed devices may keep their claims until a mirror is gone, µs. Before SPDK 25.09 a
/// bdev is closed a millisecond later (`spdk/safe/src/parting.rs`); a request that never ends keeps
/// its device for longer.
const CLOSE_US: u64 = 100_000;

impl Mirror {
    /// Offers the mirror to SPDK.
    pub(crate) fn register(self: &Rc<Self>, mirror: MirrorId, blocks: u64, block_size: u32) {
        if !matches!(*self.life.borrow(), Life::Starting { .. }) {
            return;
        }
        let name = self.name().to_owned();
        let uuid = mirror.0.to_be_bytes();
        let number = arrivals::add(Rc::<Mirror>::clone(self));
        self.number.set(Some(number));
        let control = Thread::current().expect("mirrors live on an SPDK thread");
        let (members, destroy) = (Arc::clone(&self.members), self.destroy);
        let is_awaited = Arc::clone(&self.is_awaited);
        let (name, unmaps) = (name.clone(), self.unmaps());
        self.set_zeroes_max(block_size);
        let disk = MirrorDisk { number, name: name.clone(), members, control, destroy, unmaps, is_awaited };
        let disk = Arc::new(disk);
        let promised = self.promise();
        let info = DiskInfo {
            name: name.clone(),
            product_name: "DST Mirror",
            uuid,
            block_size,
            num_blocks: blocks,
            write_unit_size: 1,
            optimal_io_boundary: 0,
            split_on_boundary: false,
            acwu: 1,
            required_alignment_log2: promised.alignment.trailing_zeros() as u8,
            write_cache: promised.write_cache,
        };
        self.promised.set(Some(promised));
        // Its users' I/O may come inside the call, before the mirror is seen as running: the rules
        // take it.
        let registered =
            if spdk::bdev::has_uuid(uuid) { Err(spdk::Errno::EEXIST) } else { register(disk, info) };
        match registered {
            Ok(disk) => {
                let before = self.life.replace(Life::Running(disk));
                spdk::notice!("DST mirror {name} is there: {blocks} blocks of {block_size} bytes");
                if let Life::Starting { waiting: Some((answer, _)) } = before {
                    answer(Ok(name));
                }
            }
            Err(errno) => {
                self.forget_number();
                self.give_up(Error::Register { name, errno });
            }
        }
    }

    /// Returns what users are told of the members. For a member that is missing, the worst is
    /// assumed, as it may come back later. The witness does not count, since it has no data of
    /// users.
    fn promise(&self) -> Promised {
        let places = self.places.borrow();
        let members = places.iter().zip(Device::all()).filter(|(_, device)| *device != Device::WITNESS);
        members.filter_map(|(place, _)| place.as_ref()).map(|place| place.needs()).fold(
            Promised { alignment: 1, write_cache: false },
            |all, needs| Promised {
                alignment: all.alignment.max(needs.alignment),
                write_cache: all.write_cache || needs.write_cache,
            },
        )
    }

    /// Returns whether all members are there and can unmap blocks: SPDK says of every bdev that it writes
    /// zeroes, and writes data where it does not, which one that unmaps seldom needs. The witness
    /// has none of the users' data.
    fn unmaps(&self) -> bool {
        let places = self.places.borrow();
        let members = places.iter().zip(Device::all()).filter(|(_, device)| *device != Device::WITNESS);
        members.filter_map(|(place, _)| place.as_ref()).all(|place| match &place.backing {
            Backing::Open(open) => open.info.supports.contains(IoTypes::UNMAP),
            Backing::Leaving { .. } | Backing::Waiting { .. } => false,
        })
    }

    /// The rules have given up the creation or the assembly, or another host has the mirror now.
    pub(crate) fn ended(self: &Rc<Self>, why: String) {
        let name = self.name().to_owned();
        spdk::error!("DST mirror {name}: {why}");
        let mut life = self.life.borrow_mut();
        match std::mem::replace(&mut *life, Life::Ended { why: why.clone() }) {
            Life::Starting { waiting: Some(waiting) } => {
                *life = Life::Starting { waiting: Some(waiting) };
                drop(life);
                let why = match *self.takeover.borrow() {
                    Some(_) => format!("{why}. The bdevs that were taken over for it are deleted"),
                    None => why,
                };
                self.give_up(Error::Ended { name, why });
            }
            Life::Starting { waiting: None } => {}
            // The bdev stays, and its I/O fails, until the operator deletes it.
            other => {
                *life = other;
                drop(life);
                // What it still waits for is given back later: this may be inside a call of that bdev's.
                if let Some(takeover) = self.takeover.borrow_mut().as_mut() {
                    takeover.end();
                }
            }
        }
    }

    /// Ends a mirror that has not become usable. The caller that waits is told when nothing is
    /// left.
    pub(crate) fn give_up(self: &Rc<Self>, error: Error) {
        let before = self.life.replace(Life::Ended { why: error.to_string() });
        let Life::Starting { waiting } = before else {
            *self.life.borrow_mut() = before;
            return;
        };
        match waiting {
            Some((answer, _)) => self.begin_stop(Box::new(move || answer(Err(error)))),
            // Looked at with bdev_dst_mirror_get_info.
            None => spdk::error!("DST mirror {}: {error}", self.name()),
        }
    }

    /// Deletes the mirror. `done` is called when nothing of it is left.
    pub(crate) fn delete(self: &Rc<Self>, wipe: bool, done: Answer) {
        let name = self.name().to_owned();
        if self.life.borrow().is_over() {
            return done(Err(Error::Deleting(name)));
        }
        self.is_to_be_wiped.set(wipe);
        match self.life.replace(Life::Unregistering) {
            Life::Running(disk) => {
                let mirror = Rc::clone(self);
                disk.unregister(move |result| {
                    done(match result {
                        Ok(()) => mirror.deleted(),
                        Err(errno) => Err(Error::Unregister { name, errno }),
                    });
                });
            }
            before => {
                if let Life::Starting { waiting: Some((answer, _)) } = before {
                    answer(Err(Error::Deleted(name.clone())));
                }
                let mirror = Rc::clone(self);
                self.begin_stop(Box::new(move || done(mirror.deleted())));
            }
        }
    }

    /// Returns the answer to a deletion of which nothing is left to be done.
    fn deleted(&self) -> Result<String, Error> {
        let (name, not_wiped) = (self.name().to_owned(), self.not_wiped.take());
        if not_wiped.is_empty() {
            Ok(name)
        } else {
            Err(Error::NotWiped { name, devices: not_wiped.join(", ") })
        }
    }

    /// SPDK has ended the bdev, which nobody uses any more. `done` is called when nothing is left.
    pub(crate) fn bdev_is_unused(self: &Rc<Self>, done: Done) {
        self.begin_stop(done);
    }

    /// Has the rules write what is left to be written.
    fn begin_stop(self: &Rc<Self>, done: Done) {
        if self.number().is_some() {
            self.end_takeover(Box::new(|| {}));
        }
        *self.life.borrow_mut() = Life::Stopping(done);
        self.abandon_opening();
        self.tell(Input::Stop { wipe: self.is_to_be_wiped.get() });
    }

    /// The rules have written what was left to be written.
    pub(crate) fn stopped(self: &Rc<Self>, wiped: &[Device]) {
        let before = self.life.replace(Life::Gone);
        let Life::Stopping(done) = before else {
            *self.life.borrow_mut() = before;
            return;
        };
        self.is_stopped.set(true);
        if self.is_to_be_wiped.get() {
            let not_wiped = self.named_devices().into_iter().filter(|device| !wiped.contains(device));
            *self.not_wiped.borrow_mut() = not_wiped.map(|device| self.shown(device)).collect();
        }
        self.close_all();
        *self.life.borrow_mut() = Life::Closing { until_us: now_us() + CLOSE_US, done };
    }

    /// Does what is due at this time.
    pub(crate) fn look_at_life(self: &Rc<Self>, now: u64) {
        let life = self.life.borrow();
        match &*life {
            Life::Starting { waiting: Some((_, until_us)) } if *until_us <= now => {
                drop(life);
                let (name, waited_ms) = (self.name().to_owned(), self.options().start_timeout_ms);
                let why = self.why_not_there();
                self.give_up(Error::Timeout { name, waited_ms, why });
            }
            Life::Closing { until_us, .. } if *until_us <= now || self.is_closed() => {
                drop(life);
                if let Life::Closing { done, .. } = self.life.replace(Life::Gone) {
                    self.forget_number();
                    (self.forget)(self);
                    self.end_takeover(done);
                }
            }
            _ => {}
        }
    }

    fn forget_number(&self) {
        if let Some(number) = self.number.take() {
            arrivals::remove(number);
        }
    }
}
