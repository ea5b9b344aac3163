//! The numbers by which a mirror and its driver name devices, I/O and requests.

use std::fmt;

use crate::configuration::MEMBERS_MAX;

/// A device that the mirror uses: its place in the call that created or assembled the mirror. Which
/// member the device is, its metadata tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub u8);

impl Device {
    /// The device of the witness.
    pub const WITNESS: Device = Device(MEMBERS_MAX as u8);

    /// The number of devices, the witness included.
    pub const COUNT: usize = MEMBERS_MAX + 1;

    /// Returns all devices.
    pub fn all() -> impl Iterator<Item = Device> {
        (0..Device::COUNT as u8).map(Device)
    }

    /// Returns the place in a table of all devices.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Device::WITNESS => f.write_str("the witness"),
            Device(index) => write!(f, "member {index}"),
        }
    }
}

/// A user's I/O, by the driver's number below [`crate::Options::ios_max`]. The number is free again
/// once the I/O is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u32);

/// A request to a device, by a number below [`crate::Mirror::requests_max`]. The number is free again
/// once the driver has reported the end of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// A buffer of [`crate::Options::copy_bytes`] bytes through which blocks are copied from one member
/// to another one, by a number below [`crate::Options::copy_slots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u16);
