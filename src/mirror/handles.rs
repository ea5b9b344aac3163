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

/// A set of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Devices(u16);

// A bit each.
const _: () = assert!(Device::COUNT <= u16::BITS as usize);

impl Devices {
    /// No device.
    pub const NONE: Devices = Devices(0);

    /// Returns the set with this device alone.
    #[inline]
    pub const fn of(device: Device) -> Devices {
        Devices(1 << device.0)
    }

    /// Returns the set with this device, too.
    #[inline]
    #[must_use]
    pub fn with(self, device: Device) -> Devices {
        Devices(self.0 | Devices::of(device).0)
    }

    /// Returns the set without this device.
    #[inline]
    #[must_use]
    pub fn without(self, device: Device) -> Devices {
        Devices(self.0 & !Devices::of(device).0)
    }

    /// Returns whether the device is in the set.
    #[inline]
    pub fn contains(self, device: Device) -> bool {
        self.0 & Devices::of(device).0 != 0
    }

    /// Returns whether no device is in the set.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the devices of the set, in ascending order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Device> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let device = (left != 0).then(|| Device(left.trailing_zeros() as u8))?;
            left &= left - 1;
            Some(device)
        })
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

/// A request to a device, or a write to several, by a number below [`crate::Mirror::requests_max`]. The
/// number is free again once the driver has reported the end of the request at each device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// A buffer of [`crate::Options::copy_bytes`] bytes through which blocks are copied from one member
/// to another one, by a number below [`crate::Options::copy_slots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u16);
