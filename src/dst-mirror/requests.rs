//! The requests of a mirror to its devices.

use std::rc::Rc;

use dst_mirror::{Device, Devices, Extent, Input, IoId, Outcome, RequestId, SlotId};
use spdk::bdev::{BackendIo, IoStatus, IoTypes};

use crate::device::{Backing, OpenDevice, Place};
use crate::mirror::Mirror;
use crate::request::{Metadata, Owner, Pending, Purpose};

impl Mirror {
    /// Returns the device, if it is open. Nothing stays borrowed while SPDK takes a request, since a bdev
    /// may end others meanwhile. HOT.
    fn open_device(&self, device: Device) -> Option<Rc<OpenDevice>> {
        match self.places.borrow()[device.index()].as_ref()? {
            Place { backing: Backing::Open(open), .. } => Some(Rc::clone(open)),
            Place { .. } => None,
        }
    }

    /// Returns a request for SPDK with the data of a user's I/O. HOT.
    fn begin_lent(
        self: &Rc<Self>,
        request: RequestId,
        device: Device,
        io: IoId,
    ) -> Option<Box<BackendIo<Pending>>> {
        let mut users = self.users.borrow_mut();
        let user = users.get(io)?;
        let mut io = self.begin(device, Purpose::Plain(request));
        io.lend(user);
        Some(io)
    }

    /// Returns a request for SPDK. HOT.
    fn begin(self: &Rc<Self>, device: Device, purpose: Purpose) -> Box<BackendIo<Pending>> {
        let owner: Rc<dyn Owner> = Rc::<Mirror>::clone(self);
        let pending = Pending { owner: Some(owner), device, purpose };
        let mut idle = self.idle.borrow_mut();
        match idle.pop() {
            Some(mut io) => {
                if let Some(next) = idle.last() {
                    // Soon wanted, and out of the CPU's caches by now.
                    next.footprint().prefetch();
                }
                io.ctx = pending;
                io
            }
            None => Box::new(BackendIo::new(pending)),
        }
    }

    /// Ends a request that SPDK is not asked for. The rules hear of it later.
    #[cold]
    fn end_at_once(&self, request: RequestId, device: Device, outcome: Outcome) {
        self.at_once.borrow_mut().push_back((request, device, outcome));
    }

    /// Reads into a user's buffer. HOT.
    pub(crate) fn read(self: &Rc<Self>, request: RequestId, device: Device, io: IoId, range: Extent) {
        let Some(open) = self.open_device(device) else {
            return self.end_at_once(request, device, Outcome::Failed);
        };
        match self.begin_lent(request, device, io) {
            Some(io) => open.begin(&io).read_lent(io, range.start, range.count),
            None => self.end_at_once(request, device, Outcome::Failed),
        }
    }

    /// Writes a user's buffer. HOT.
    pub(crate) fn write(self: &Rc<Self>, request: RequestId, devices: Devices, io: IoId, range: Extent) {
        for device in devices.iter() {
            let open = self.open_device(device);
            match open.and_then(|open| Some((open, self.begin_lent(request, device, io)?))) {
                Some((open, io)) => open.begin(&io).write_lent(io, range.start, range.count),
                None => self.end_at_once(request, device, Outcome::Failed),
            }
        }
    }

    /// Fills blocks with zeroes. HOT.
    pub(crate) fn write_zeroes(self: &Rc<Self>, request: RequestId, devices: Devices, range: Extent) {
        for device in devices.iter() {
            match self.open_device(device) {
                Some(open) => {
                    let io = self.begin(device, Purpose::Plain(request));
                    open.begin(&io).write_zeroes(io, range.start, range.count);
                }
                None => self.end_at_once(request, device, Outcome::Failed),
            }
        }
    }

    /// Flushes a device. HOT.
    pub(crate) fn flush(self: &Rc<Self>, request: RequestId, device: Device) {
        match self.open_device(device) {
            // What cannot be flushed has no cache to flush.
            Some(open) if !open.info.supports.contains(IoTypes::FLUSH) => {
                self.end_at_once(request, device, Outcome::Success);
            }
            Some(open) => {
                let io = self.begin(device, Purpose::Plain(request));
                open.begin(&io).flush(io, 0, open.info.num_blocks);
            }
            None => self.end_at_once(request, device, Outcome::Failed),
        }
    }

    /// Reads blocks into a slot.
    pub(crate) fn copy_read(
        self: &Rc<Self>,
        request: RequestId,
        device: Device,
        slot: SlotId,
        range: Extent,
    ) {
        self.read_slot(request, device, Purpose::Copy(request, slot), slot, range);
    }

    /// Reads blocks into the second slot, and compares them with the first one.
    pub(crate) fn compare_read(
        self: &Rc<Self>,
        request: RequestId,
        device: Device,
        slots: [SlotId; 2],
        range: Extent,
    ) {
        self.read_slot(request, device, Purpose::Compare(request, slots), slots[1], range);
    }

    fn read_slot(
        self: &Rc<Self>,
        request: RequestId,
        device: Device,
        purpose: Purpose,
        slot: SlotId,
        range: Extent,
    ) {
        let Some(open) = self.open_device(device) else {
            return self.end_at_once(request, device, Outcome::Failed);
        };
        let mut io = self.begin(device, purpose);
        let bytes = range.count as usize * open.info.block_size as usize;
        if self.buffers.borrow_mut().take_slot(slot, &mut io.data, bytes) {
            open.begin(&io).read(io, range.start, range.count);
        } else {
            spdk::error!("DST mirror {}: slot {} does not take {bytes} bytes", self.name(), slot.0);
            self.put_back(io);
            self.end_at_once(request, device, Outcome::Failed);
        }
    }

    /// Writes blocks from a slot.
    pub(crate) fn copy_write(
        self: &Rc<Self>,
        request: RequestId,
        device: Device,
        slot: SlotId,
        range: Extent,
    ) {
        let Some(open) = self.open_device(device) else {
            return self.end_at_once(request, device, Outcome::Failed);
        };
        let mut io = self.begin(device, Purpose::Copy(request, slot));
        self.buffers.borrow_mut().swap_slot(slot, &mut io.data);
        open.begin(&io).write(io, range.start, range.count);
    }

    /// Reads or writes metadata, or waits until there is memory for it.
    pub(crate) fn metadata(self: &Rc<Self>, wanted: Metadata) {
        if !self.wanting_memory.borrow().is_empty() || !self.try_metadata(&wanted) {
            self.wanting_memory.borrow_mut().push_back(wanted);
        }
    }

    /// Reads or writes metadata. Returns false if there is no memory for it now.
    fn try_metadata(self: &Rc<Self>, wanted: &Metadata) -> bool {
        let &Metadata { request, device, range, ref content } = wanted;
        let Some(open) = self.open_device(device) else {
            self.end_at_once(request, device, Outcome::Failed);
            return true;
        };
        let len = range.count as usize * open.info.block_size as usize;
        if !self.buffers.borrow().holds_metadata(len)
            || content.as_ref().is_some_and(|bytes| bytes.len() != len)
        {
            spdk::error!("DST mirror {}: metadata of {len} bytes do not fit", self.name());
            self.end_at_once(request, device, Outcome::Failed);
            return true;
        }
        let purpose = match content {
            None => Purpose::MetadataRead(request),
            Some(_) => Purpose::MetadataWrite(request),
        };
        let mut io = self.begin(device, purpose);
        if !self.buffers.borrow().take_metadata(&mut io.data, len) {
            self.put_back(io);
            return false;
        }
        match content {
            None => open.begin(&io).read(io, range.start, range.count),
            Some(bytes) => {
                io.data.copy_in(0, bytes);
                open.begin(&io).write(io, range.start, range.count);
            }
        }
        true
    }

    /// Ends the requests for metadata to a device that wait for memory. The device is being closed, and may
    /// be opened again before there is memory: what was to be written is old by then.
    pub(crate) fn end_waiting(&self, device: Device) {
        self.wanting_memory.borrow_mut().retain(|wanted| {
            let is_kept = wanted.device != device;
            if !is_kept {
                self.end_at_once(wanted.request, device, Outcome::Failed);
            }
            is_kept
        });
    }

    /// Begins requests for metadata that waited for memory, in their order.
    fn use_memory(self: &Rc<Self>) {
        loop {
            let next = self.wanting_memory.borrow_mut().pop_front();
            let Some(wanted) = next else { return };
            if !self.try_metadata(&wanted) {
                return self.wanting_memory.borrow_mut().push_front(wanted);
            }
        }
    }

    /// Resets a device, to end its requests, also one that is to be closed.
    pub(crate) fn reset(self: &Rc<Self>, request: RequestId, device: Device) {
        match self.open_or_leaving(device) {
            Some(open) => {
                let io = self.begin(device, Purpose::Plain(request));
                open.begin(&io).reset(io);
            }
            None => self.end_at_once(request, device, Outcome::Failed),
        }
    }

    /// Resets a device to end its requests. The rules hear of those, and not of the reset.
    pub(crate) fn end_requests(self: &Rc<Self>, device: Device) {
        if let Some(open) = self.open_or_leaving(device) {
            let io = self.begin(device, Purpose::EndRequests);
            open.begin(&io).reset(io);
        }
    }

    /// Returns the bdev of a device, if that is open.
    pub(crate) fn open_or_leaving(&self, device: Device) -> Option<Rc<OpenDevice>> {
        match &self.places.borrow()[device.index()].as_ref()?.backing {
            Backing::Open(open) | Backing::Leaving { open, .. } => Some(Rc::clone(open)),
            Backing::Waiting { .. } => None,
        }
    }

    /// Keeps a request that is not in use.
    fn put_back(&self, mut io: Box<BackendIo<Pending>>) {
        io.data.release();
        io.ctx.owner = None;
        self.idle.borrow_mut().push(io);
    }

    /// A request has ended that has no memory of the mirror's. HOT.
    fn plain_ended(
        self: Rc<Self>,
        io: Box<BackendIo<Pending>>,
        request: RequestId,
        device: Device,
        outcome: Outcome,
    ) {
        self.idle.borrow_mut().push(io);
        self.has_left(device);
        self.tell_done(request, device, outcome);
    }

    /// A request has left its device. HOT.
    fn has_left(&self, device: Device) {
        let places = self.places.borrow();
        let Some(place) = &places[device.index()] else { return };
        match &place.backing {
            Backing::Open(open) => open.end(),
            Backing::Leaving { open, .. } => {
                open.end();
                drop(places);
                self.close_if_idle(device);
            }
            Backing::Waiting { .. } => {}
        }
    }
}

impl Owner for Mirror {
    /// HOT.
    fn ended(self: Rc<Self>, mut io: Box<BackendIo<Pending>>, status: IoStatus) {
        let Pending { device, purpose, .. } = io.ctx;
        let outcome = if status == IoStatus::Success { Outcome::Success } else { Outcome::Failed };
        let input = match purpose {
            Purpose::Plain(request) => return self.plain_ended(io, request, device, outcome),
            Purpose::MetadataWrite(request) => Some(Input::Done { request, device, outcome }),
            Purpose::Copy(request, slot) => {
                self.buffers.borrow_mut().swap_slot(slot, &mut io.data);
                Some(Input::Done { request, device, outcome })
            }
            Purpose::Compare(request, slots) => {
                let (start, count) = io.blocks();
                let range = Extent { start, count };
                let mut buffers = self.buffers.borrow_mut();
                buffers.swap_slot(slots[1], &mut io.data);
                match outcome {
                    Outcome::Success => {
                        Some(Input::Compared { request, differing: buffers.differences(slots, range) })
                    }
                    _ => Some(Input::Done { request, device, outcome }),
                }
            }
            Purpose::MetadataRead(request) if outcome == Outcome::Success => {
                Some(Input::MetadataRead { request, bytes: content(&io) })
            }
            Purpose::MetadataRead(request) => Some(Input::Done { request, device, outcome }),
            Purpose::EndRequests => None,
        };
        self.put_back(io);
        if matches!(purpose, Purpose::MetadataRead(_) | Purpose::MetadataWrite(_)) {
            self.use_memory();
        }
        // Before the rules hear of it, as that may be their end, at which nothing is left of a request. A
        // device that is closed here is opened again by the registry's poller only.
        self.has_left(device);
        if let Some(input) = input {
            self.tell(input);
        }
    }
}

/// Returns what a request has read.
pub(crate) fn content<T>(io: &BackendIo<T>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(io.data.len());
    while bytes.len() < io.data.len() {
        bytes.extend_from_slice(io.data.slice(bytes.len()));
    }
    bytes
}
