//! What a mirror wants done. The driver carries it out in the order in which it comes.
//!
//! Each request ends at each of its devices with exactly one [`crate::Input::Done`],
//! [`crate::Input::MetadataRead`] or [`crate::Input::Compared`], which the driver never reports while it
//! is carrying out an output.

use crate::extents::Extent;
use crate::handles::{Device, Devices, IoId, RequestId, SlotId};
use crate::ids::MirrorId;

/// How a user's I/O has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The I/O was carried out.
    Success,
    /// The I/O has failed. Of a write, any part may have been carried out.
    Failed,
}

/// The weight of a line for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The operator needs to do something, or redundancy or data are lost.
    Warning,
    /// What happened, for the record.
    Notice,
}

/// Something for the driver to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Read the range into the buffer of the user's I/O, which has the same range.
    Read {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// The user's I/O.
        io: IoId,
        /// The blocks.
        range: Extent,
    },
    /// Write the buffer of the user's I/O, which has the same range, to each of some devices. The I/O is
    /// a write, or a read whose blocks another member could not read.
    Write {
        /// The request.
        request: RequestId,
        /// The devices: at least one.
        devices: Devices,
        /// The user's I/O.
        io: IoId,
        /// The blocks.
        range: Extent,
    },
    /// Fill the range with zeroes, on each of some devices.
    WriteZeroes {
        /// The request.
        request: RequestId,
        /// The devices: at least one.
        devices: Devices,
        /// The blocks.
        range: Extent,
    },
    /// Make durable what was written before.
    Flush {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
    },
    /// Read the range into a slot.
    CopyRead {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// The slot.
        slot: SlotId,
        /// The blocks: no more than fit into the slot.
        range: Extent,
    },
    /// Read the range into a slot, compare it with what another slot holds of the same range, and report
    /// [`crate::Input::Compared`], or a failed [`crate::Input::Done`].
    CompareRead {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// The slot.
        slot: SlotId,
        /// The slot to compare with.
        with: SlotId,
        /// The blocks: no more than fit into a slot.
        range: Extent,
    },
    /// Write the range from a slot.
    CopyWrite {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// The slot.
        slot: SlotId,
        /// The blocks.
        range: Extent,
    },
    /// Read metadata, and report [`crate::Input::MetadataRead`], or a failed [`crate::Input::Done`].
    MetadataRead {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// The blocks.
        range: Extent,
    },
    /// End all requests that the device has, each with its own [`crate::Input::Done`]. There is at
    /// most one reset of a device at a time.
    Reset {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
    },
    /// Close the device once its requests have ended, and report it as opened when it can be opened
    /// again. The mirror sends it nothing until then.
    Close {
        /// The device.
        device: Device,
    },
    /// Report [`crate::Input::Turn`] when the mirror may copy so many bytes ([`crate::Turns`]), not
    /// before this output is carried out. The mirror wants one turn at a time. A mirror that is assembled
    /// again may want one anew: the last one counts.
    WantTurn {
        /// The number of bytes, which is not 0.
        bytes: u64,
    },
    /// Complete a user's I/O. No request uses its buffer any more.
    Complete {
        /// The I/O.
        io: IoId,
        /// How the I/O has ended.
        status: Status,
    },
    /// Something that is rarely wanted.
    Rare(Box<Rare>),
}

// Each I/O has several outputs, so they are small, and those that have to be freed are apart.
const _: () = assert!(size_of::<Output>() <= 32);

impl From<Rare> for Output {
    fn from(rare: Rare) -> Output {
        Output::Rare(Box::new(rare))
    }
}

/// Something for the driver to do that has memory of its own, or is needed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rare {
    /// Write metadata. They are durable after a [`Output::Flush`] that comes later.
    MetadataWrite {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// The blocks.
        range: Extent,
        /// The content of the range.
        bytes: Vec<u8>,
    },
    /// The mirror can be used: offer it to users. Comes once.
    Register {
        /// The mirror.
        mirror: MirrorId,
        /// The size in blocks.
        blocks: u64,
        /// The size of a block in bytes.
        block_size: u32,
    },
    /// The answer to [`crate::Input::AddMember`] and [`crate::Input::RemoveMember`]: the change counts, or
    /// was not made. The device of a member that was removed, and one that did not become a member, are
    /// closed before.
    Changed {
        /// Why the change was not made, or what is wrong with it.
        result: Result<(), String>,
    },
    /// The mirror could not be created or assembled, or is lost to another host. Only
    /// [`crate::Input::Stop`] is of any use now; I/O that was submitted fails as its requests end.
    Ended {
        /// The reason, and what to do.
        why: String,
    },
    /// The mirror has ended. What requests there are end by themselves; nothing follows.
    Stopped {
        /// The devices whose metadata were overwritten, if that was wanted.
        wiped: Vec<Device>,
    },
    /// A line for the log. At most some for each event that a device or the operator causes.
    Log {
        /// The weight.
        level: Level,
        /// The line.
        text: String,
    },
}
