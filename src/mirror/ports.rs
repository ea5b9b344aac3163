//! The devices in use, by the place of the member in the configuration.

use crate::configuration::MEMBERS_MAX;
use crate::handles::Device;
use crate::metadata::Area;

/// The place of the witness among the ports. The members' are those in the configuration.
pub(crate) const WITNESS: usize = MEMBERS_MAX;

/// A set of places: a bit each.
pub(crate) type Places = u16;

/// A member's or the witness's device, as far as it is in use.
pub(crate) enum Port {
    /// No device is in use.
    Down {
        /// The reason, as far as it is known.
        why: String,
        /// The time since when, in µs.
        since: u64,
    },
    /// A device is in use.
    Up(Box<Up>),
}

/// A device in use.
pub(crate) struct Up {
    pub(crate) device: Device,
    /// Where its metadata are.
    pub(crate) area: Area,
    /// Whether the trees on the device are not known to be up to date. The next record brings all.
    pub(crate) is_stale: bool,
    /// Whether the device has the recorded configuration, so that a member gets data, and a witness
    /// votes.
    pub(crate) is_active: bool,
}
