//! The change of the members or the witness that is going on, as the operator asked for it.

use dst_mirror::Device;

use crate::error::Error;

/// Takes the answer to an RPC that changes the members or the witness.
pub type ChangeDone = Box<dyn FnOnce(Result<(), Error>)>;

/// A change of the members or the witness that is going on.
pub enum Changing {
    /// The bdev of a new member or witness is opened as soon as nothing else examines it.
    Opening {
        /// Its device.
        device: Device,
        /// Whether the device is taken, whatever it holds.
        force: bool,
        /// When the RPC came, in µs.
        since_us: u64,
        /// The callback for the caller that waits for it.
        done: ChangeDone,
    },
    /// The rules add a member or the witness.
    Adding {
        /// Its device.
        device: Device,
        /// The callback for the caller that waits for it.
        done: ChangeDone,
    },
    /// The rules remove a member or the witness.
    Removing {
        /// Its device, if there is one.
        device: Option<Device>,
        /// The callback for the caller that waits for it.
        done: ChangeDone,
    },
}
