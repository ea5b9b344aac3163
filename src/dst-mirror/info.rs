//! What a mirror shows of itself.

use dst_mirror::report::State;
use dst_mirror::{Device, Report};

use crate::device::{Backing, Place};
use crate::life::Life;
use crate::mirror::Mirror;
use crate::options::Plan;
use crate::users::Latency;

/// A mirror as `bdev_dst_mirror_get_info` shows it.
#[derive(Debug, Clone)]
pub struct Info {
    /// What the operator asked for, with the options as they are now.
    pub plan: Plan,
    /// What the rules show.
    pub report: Report,
    /// The devices, in the order of the call, the witness last.
    pub devices: Vec<DeviceInfo>,
    /// Whether the mirror is being deleted.
    pub is_deleting: bool,
    /// Whether the RPC that made the mirror is answered, and its deletion has not begun.
    pub is_settled: bool,
    /// The I/Os of users that are being executed, and that wait for that.
    pub ios: (usize, usize),
    /// How long the users' I/O took.
    pub latency: Latency,
}

/// A device of a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The place.
    pub device: Device,
    /// The name or UUID that the operator gave it.
    pub wanted: String,
    /// The bdev.
    pub state: DeviceState,
}

/// What has become of the bdev of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// The bdev is not there, or cannot be had.
    Waiting {
        /// The reason.
        why: String,
    },
    /// The bdev is open.
    Open {
        /// Its own name.
        bdev: String,
        /// The number of requests under way.
        in_flight: usize,
    },
    /// The bdev is closed when its requests have ended.
    Leaving {
        /// Its own name.
        bdev: String,
        /// The number of requests under way.
        in_flight: usize,
    },
}

impl Mirror {
    /// Returns what `bdev_dst_mirror_get_info` shows now.
    pub fn info(&self) -> Info {
        let places = self.places.borrow();
        let show = |device: Device| {
            let Place { wanted, backing, .. } = places[device.index()].as_ref()?;
            let state = match backing {
                Backing::Waiting { why } => DeviceState::Waiting { why: why.clone() },
                Backing::Open(open) => {
                    DeviceState::Open { bdev: open.info.name.clone(), in_flight: open.in_flight() }
                }
                Backing::Leaving { open, .. } => {
                    DeviceState::Leaving { bdev: open.info.name.clone(), in_flight: open.in_flight() }
                }
            };
            Some(DeviceInfo { device, wanted: wanted.text.clone(), state })
        };
        Info {
            plan: self.plan(),
            report: self.report(),
            devices: Device::all().filter_map(show).collect(),
            is_deleting: self.life.borrow().is_over(),
            is_settled: self.is_settled(),
            ios: self.ios(),
            latency: *self.users.borrow().latency(),
        }
    }

    /// Returns what the rules show now.
    pub fn report(&self) -> Report {
        let mut report = self.rules.borrow().report();
        // SPDK may have refused what the rules take for registered.
        if let Life::Ended { why } = &*self.life.borrow()
            && !matches!(report.state, State::Ended { .. })
        {
            report.state = State::Ended { why: why.clone() };
        }
        report
    }

    /// Returns the number of the users' I/Os that are being executed, and of those that wait for that.
    pub fn ios(&self) -> (usize, usize) {
        self.users.borrow().counts()
    }

    /// Returns why the mirror cannot be used yet.
    pub(crate) fn why_not_there(&self) -> String {
        let state = self.rules.borrow().report().state;
        match (state, self.awaited_for_takeover()) {
            (State::Ended { why }, _) | (_, Some(why)) | (State::Starting { why }, None) => why,
            _ => "its devices do not answer".to_owned(),
        }
    }

    /// Returns whether the mirror has a bdev, or had one that SPDK is ending.
    pub(crate) fn has_bdev(&self) -> bool {
        matches!(*self.life.borrow(), Life::Running(_) | Life::Unregistering)
    }
}
