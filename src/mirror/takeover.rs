//! The order in which a standby host takes the devices of a mirror over, so that of two hosts that do so
//! at once one has all of them.
//!
//! The witness comes first, then the members as the call names them. All devices are asked who owns them
//! before anything is taken. Each is then taken only if its owner is still the one that the answer named: an
//! ownership has a number, and the claim says which one it follows. The first device that answers decides:
//! a host whose claim to it comes too late has lost, and takes nothing more. A claim to any other
//! device is sent only if the host was known to own the first one *after* the number was read. So once
//! another host has the first device, whatever it has taken cannot be taken from it by a host that has
//! not heard of that yet: that host's numbers are too old. The other host asks again and takes what the
//! loser was faster to get.
//!
//! A device that does not answer is passed over, and taken by the same rule when it answers later.

use crate::handles::Device;
use crate::mutation::{Mutation, is_on};

/// How a device stands to this host. Times are in µs of the clock that [`Takeover::step`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known of the device: it does not answer, or is not there.
    Silent,
    /// The device cannot be taken over: it is a disk of this machine, for instance.
    Local,
    /// This host does not own the device.
    Foreign {
        /// The number of the newest ownership.
        number: u64,
        /// The time at which the number was read, or a later one.
        read_us: u64,
    },
    /// This host claims the device, and has no answer yet.
    Claimed,
    /// This host has the device.
    Own {
        /// A time at which this host still owned the device, or an earlier one.
        confirmed_us: u64,
    },
    /// This host cannot have the device any more, or not as its owner.
    Lost,
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask again later: when a standing has changed, or after a millisecond, or seldom if the takeover
    /// [is over](Takeover::is_over).
    Wait,
    /// Claim the ownership of the device that follows the one with this number.
    Claim {
        /// The device.
        device: Device,
        /// The number.
        after: u64,
    },
    /// All devices that can be had are taken: the mirror may be assembled. Comes once.
    Over,
    /// The mirror has ended, and nothing more is claimed.
    Ended,
    /// Another host was faster, or the device cannot be owned. The mirror is not to be assembled, and
    /// nothing more is claimed.
    Lost {
        /// The device that decided it.
        device: Device,
    },
}

/// How far the takeover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The devices are asked for their owners.
    Asking,
    /// The devices are taken, the one with this place in the order first.
    Taking {
        first: usize,
    },
    /// What can be had is taken, and the mirror is assembled. Devices that answer later follow.
    Over {
        first: usize,
    },
    Lost,
    Ended,
}

/// A device in the order.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    device: Device,
    /// When this host claimed the device first. A device that is claimed again has no longer to answer.
    claimed_us: Option<u64>,
}

/// A takeover of a mirror's devices.
#[derive(Debug)]
pub struct Takeover {
    order: Vec<Wanted>,
    stage: Stage,
    /// How long a device may take to answer.
    wait_us: u64,
    began_us: u64,
}

impl Takeover {
    /// Returns a takeover of so many members, and of the witness if there is one, that begins at `now`.
    /// Devices that have not answered after `wait_us`, neither for the first time nor to a claim, are
    /// passed over.
    pub fn new(members: usize, has_witness: bool, now: u64, wait_us: u64) -> Takeover {
        let members = (0..).map(Device).take(members);
        let order = has_witness.then_some(Device::WITNESS).into_iter().chain(members);
        let mut order: Vec<Wanted> = order.map(|device| Wanted { device, claimed_us: None }).collect();
        if is_on(Mutation::TakeInAnyOrder) && now % 2 == 1 {
            order.reverse();
        }
        Takeover { order, stage: Stage::Asking, wait_us, began_us: now }
    }

    /// Returns whether the mirror must not be told of its devices yet.
    pub fn withholds(&self) -> bool {
        !matches!(self.stage, Stage::Over { .. } | Stage::Ended)
    }

    /// Returns whether the mirror is assembled and used, so that nothing waits for the next step.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over { .. })
    }

    /// Returns the next step at the time `now`.
    pub fn step(&mut self, now: u64, standing: impl Fn(Device) -> Standing) -> Step {
        match self.stage {
            Stage::Asking => self.ask(now, &standing),
            Stage::Taking { first } => self.take(now, first, &standing),
            // What becomes of devices in use, the mirror is told.
            Stage::Over { first } => match self.rest(now, first, &standing) {
                claim @ Step::Claim { .. } => claim,
                _ => Step::Wait,
            },
            Stage::Lost => Step::Wait,
            Stage::Ended => Step::Ended,
        }
    }

    /// Claims nothing more: another host has the mirror.
    pub fn end(&mut self) {
        self.stage = Stage::Ended;
    }

    fn ask(&mut self, now: u64, standing: &impl Fn(Device) -> Standing) -> Step {
        if let Some(lost) = self.find_lost(standing) {
            return self.lose(lost);
        }
        let is_silent = |wanted: &Wanted| standing(wanted.device) == Standing::Silent;
        if self.order.iter().any(is_silent) && now < self.began_us.saturating_add(self.wait_us) {
            return Step::Wait;
        }
        match self.first_from(0, standing) {
            Some(first) => {
                self.stage = Stage::Taking { first };
                self.take(now, first, standing)
            }
            None if self.order.iter().any(is_silent) => Step::Wait,
            // Disks of this machine only.
            None => {
                self.stage = Stage::Over { first: 0 };
                Step::Over
            }
        }
    }

    /// Returns the place of the first device, from this place on, that can decide.
    fn first_from(&self, from: usize, standing: &impl Fn(Device) -> Standing) -> Option<usize> {
        let decides = |at: &usize| {
            let standing = standing(self.order[*at].device);
            matches!(standing, Standing::Foreign { .. } | Standing::Claimed | Standing::Own { .. })
        };
        (from..self.order.len()).find(decides)
    }

    fn take(&mut self, now: u64, first: usize, standing: &impl Fn(Device) -> Standing) -> Step {
        if let Some(lost) = self.find_lost(standing) {
            return self.lose(lost);
        }
        let Wanted { device, claimed_us } = self.order[first];
        match standing(device) {
            Standing::Own { .. } => {}
            // The claim came too late.
            Standing::Foreign { .. } if claimed_us.is_some() => return self.lose(device),
            Standing::Foreign { number, .. } => return self.claim(now, first, number),
            _ if now < claimed_us.unwrap_or(self.began_us).saturating_add(self.wait_us) => return Step::Wait,
            // It has fallen silent: the next one decides.
            _ => match self.first_from(first + 1, standing) {
                Some(next) => {
                    self.stage = Stage::Taking { first: next };
                    return self.take(now, next, standing);
                }
                None => return Step::Wait,
            },
        }
        let step = self.rest(now, first, standing);
        if step == Step::Over {
            self.stage = Stage::Over { first };
        }
        step
    }

    /// Takes all devices but the first one: [`Step::Over`] if none is to be waited for.
    fn rest(&mut self, now: u64, first: usize, standing: &impl Fn(Device) -> Standing) -> Step {
        let confirmed_us = match standing(self.order[first].device) {
            Standing::Own { confirmed_us } => Some(confirmed_us),
            // The first device was removed from the mirror since. The next one in the order that this
            // host has stands for it.
            Standing::Local => self.order.iter().find_map(|wanted| match standing(wanted.device) {
                Standing::Own { confirmed_us } => Some(confirmed_us),
                _ => None,
            }),
            _ => None,
        };
        for at in (0..self.order.len()).filter(|&at| at != first) {
            let Wanted { device, claimed_us } = self.order[at];
            let is_patient =
                |since: Option<u64>| now < since.unwrap_or(self.began_us).saturating_add(self.wait_us);
            match standing(device) {
                Standing::Own { .. } | Standing::Local | Standing::Lost => {}
                Standing::Foreign { number, read_us } => {
                    let is_confirmed = confirmed_us.is_some_and(|confirmed_us| confirmed_us >= read_us);
                    if is_confirmed || is_on(Mutation::ClaimUnconfirmed) {
                        return self.claim(now, at, number);
                    }
                    // One that was not claimed yet is waited for until it can be.
                    if claimed_us.is_none() || is_patient(claimed_us) {
                        return Step::Wait;
                    }
                }
                Standing::Claimed if is_patient(claimed_us) => return Step::Wait,
                Standing::Silent if is_patient(None) => return Step::Wait,
                Standing::Claimed | Standing::Silent => {}
            }
        }
        Step::Over
    }

    fn claim(&mut self, now: u64, at: usize, after: u64) -> Step {
        let wanted = &mut self.order[at];
        wanted.claimed_us.get_or_insert(now);
        Step::Claim { device: wanted.device, after }
    }

    fn find_lost(&self, standing: &impl Fn(Device) -> Standing) -> Option<Device> {
        self.order.iter().map(|wanted| wanted.device).find(|&device| standing(device) == Standing::Lost)
    }

    fn lose(&mut self, device: Device) -> Step {
        self.stage = Stage::Lost;
        Step::Lost { device }
    }

    /// Returns the devices that this host has claimed.
    pub fn claimed(&self) -> impl Iterator<Item = Device> + '_ {
        let claimed = self.order.iter().filter(|wanted| wanted.claimed_us.is_some());
        claimed.map(|wanted| wanted.device)
    }

    /// Returns the device that is waited for, or `None` if nothing is.
    pub fn waits_for(&self, standing: impl Fn(Device) -> Standing) -> Option<Device> {
        let is_awaited = |device: &Device| match standing(*device) {
            Standing::Own { .. } | Standing::Local => false,
            // What becomes of devices in use, the mirror is told.
            Standing::Lost => self.withholds(),
            Standing::Silent | Standing::Foreign { .. } | Standing::Claimed => true,
        };
        let mut devices = self.order.iter().map(|wanted| wanted.device);
        if self.stage == Stage::Ended { None } else { devices.find(is_awaited) }
    }
}
