//! A request to a device, while SPDK has it.

use std::rc::Rc;

use dst_mirror::{Device, Extent, RequestId, SlotId};
use spdk::bdev::{BackendDone, BackendIo, IoStatus};

// A request's end needs the context and 32 bytes more of a `BackendIo`: see there.
const _: () = assert!(size_of::<Pending>() <= 32);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Anything that has no memory of the mirror's.
    Plain(RequestId),
    /// A read of metadata.
    MetadataRead(RequestId),
    /// A write of metadata.
    MetadataWrite(RequestId),
    /// A copy from or to a slot.
    Copy(RequestId, SlotId),
    /// A read into the second slot, which is then compared with the first one.
    Compare(RequestId, [SlotId; 2]),
    /// A reset that the rules do not know of.
    EndRequests,
}

/// A read or write of metadata that the rules want.
pub struct Metadata {
    /// The number of the request.
    pub request: RequestId,
    /// The device.
    pub device: Device,
    /// The blocks.
    pub range: Extent,
    /// What is written: as long as the range. `None`: a read.
    pub content: Option<Vec<u8>>,
}

/// What takes the ends of requests.
pub trait Owner {
    /// A request has ended.
    fn ended(self: Rc<Self>, io: Box<BackendIo<Pending>>, status: IoStatus);
}

/// The context of a request.
pub struct Pending {
    /// The mirror, while the request is under way.
    pub owner: Option<Rc<dyn Owner>>,
    /// The device.
    pub device: Device,
    /// What the request is for.
    pub purpose: Purpose,
}

impl BackendDone for Pending {
    fn done(mut io: Box<BackendIo<Pending>>, status: IoStatus) {
        if let Some(owner) = io.ctx.owner.take() {
            owner.ended(io, status);
        }
    }
}
