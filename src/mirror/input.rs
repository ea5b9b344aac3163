//! What a mirror is told.

use crate::extents::Extent;
use crate::handles::{Device, IoId, RequestId};
use crate::ids::MemberId;
use crate::options::Options;

/// An operation of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Read the blocks of the range.
    Read,
    /// Write the blocks of the range.
    Write,
    /// Fill the blocks of the range with zeroes.
    WriteZeroes,
    /// Make all writes durable that have completed. The range has no meaning.
    Flush,
}

/// How a request to a device has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request was carried out.
    Success,
    /// The request has failed: it may have been carried out, in part or not at all, and nothing of it
    /// happens any more.
    Failed,
    /// As [`Outcome::Failed`], and the device has refused the request since another host owns it now.
    Refused,
}

/// An event for a mirror.
#[derive(Debug)]
pub enum Input {
    /// A device is open, and belongs to this mirror alone. Of a device that was closed or gone before,
    /// all requests have ended.
    Opened {
        /// The device.
        device: Device,
        /// The size of the device in blocks.
        blocks: u64,
        /// The size of the device's blocks in bytes.
        block_size: u32,
    },
    /// A device was removed. Its requests end each by itself, later.
    Gone {
        /// The device.
        device: Device,
    },
    /// A device belongs to another host now. The mirror is lost, unless it is known that the device is no
    /// member's.
    Refused {
        /// The device.
        device: Device,
    },
    /// A device may have lost what was written to it since its last successful flush. To be told
    /// before the device is sent any further request.
    CacheLost {
        /// The device.
        device: Device,
    },
    /// A device that could not be reached answers again. If it has failed and waits to be read again, that
    /// is done now.
    Reachable {
        /// The device.
        device: Device,
    },
    /// A user's I/O. Not before [`crate::Rare::Register`]. [`crate::Output::Complete`] answers.
    Submit {
        /// The I/O.
        io: IoId,
        /// The operation.
        op: Op,
        /// The blocks: not empty but for a flush, within the mirror, and no more than
        /// [`crate::Mirror::io_blocks_max`] for a write.
        range: Extent,
    },
    /// A request other than [`crate::Output::MetadataRead`] and [`crate::Output::CompareRead`] has ended
    /// at a device, or one of these has failed.
    Done {
        /// The request.
        request: RequestId,
        /// The device.
        device: Device,
        /// How.
        outcome: Outcome,
    },
    /// A [`crate::Output::MetadataRead`] has succeeded.
    MetadataRead {
        /// The request.
        request: RequestId,
        /// The content of the range.
        bytes: Vec<u8>,
    },
    /// A [`crate::Output::CompareRead`] has succeeded.
    Compared {
        /// The request.
        request: RequestId,
        /// The ranges that differ, in ascending order ([`crate::differences`]).
        differing: Vec<Extent>,
    },
    /// The mirror has the turn that it wants ([`crate::Output::WantTurn`]). A turn that the mirror
    /// cannot use any more is lost.
    Turn,
    /// Time has passed: [`crate::Mirror::next_deadline`] has come. More often does no harm.
    Tick,
    /// The operator has changed the options that may be changed while the mirror runs: all but
    /// those that say how much memory there is.
    SetOptions(Options),
    /// The operator adds a member: a device that the driver opens, and reports as opened after this; or one
    /// that is open already, and that the mirror does not use.
    /// [`crate::Rare::Changed`] answers.
    AddMember {
        /// The device.
        device: Device,
        /// The name, which is recorded and shown: up to [`crate::MEMBER_NAME_MAX`] bytes.
        name: String,
        /// Whether the device is taken if it holds another mirror's metadata, or does not begin with
        /// zeroes.
        force: bool,
        /// Whether the device is open already: its size was reported then.
        is_open: bool,
    },
    /// The operator removes a member. [`crate::Rare::Changed`] answers.
    RemoveMember {
        /// The member.
        id: MemberId,
    },
    /// The operator adds a witness, with [`Device::WITNESS`] as its device: as for [`Input::AddMember`].
    AddWitness {
        /// The name, which is recorded and shown: up to [`crate::MEMBER_NAME_MAX`] bytes.
        name: String,
        /// As for [`Input::AddMember`].
        force: bool,
        /// As for [`Input::AddMember`].
        is_open: bool,
    },
    /// The operator removes the witness. [`crate::Output::Changed`] answers.
    RemoveWitness,
    /// The operator has the members compared, if [`crate::Mirror::may_verify`] says so.
    /// [`crate::Report::verification`] shows how far that is.
    Verify {
        /// Whether what differs is written over.
        repairs: bool,
    },
    /// The operator stops the verification.
    StopVerification,
    /// The mirror ends. [`crate::Rare::Stopped`] answers, when nothing is left to be written, or
    /// after [`crate::Options::stop_timeout_ms`]. No I/O is outstanding, and none comes any more.
    Stop {
        /// Whether the metadata of the devices that are there are overwritten.
        wipe: bool,
    },
}
