//! One connection's requests at the target, from the first byte received to the last byte of the
//! Answer.
//!
//! A queue knows neither its connection nor its bdev. It takes what it needs as arguments and
//! returns what is to be submitted and sent.

use std::rc::Rc;
use std::sync::Arc;

use dst_broker::Stats;
use dst_session::Violation;
use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::parts::PartSize;
use dst_session::request::{Checked, check};
use dst_session::slots::{Arrival, Slots};
use dst_session::transactions::{Request, slot_of};
use dst_transport::{Flow, Here};
use dst_wire::{Device, Flags, Header, Op, Status};
use spdk::iov::{Iov, IovMut};

use self::answers::Answers;
use self::slot_state::{Course, SlotState};
use crate::backend_resets::BackendResets;
use crate::completion::{Io, digest_of};
use crate::gathering::Backlog;
use crate::holds::{ClientHolds, HoldNotice};
use crate::pools::Pools;
use crate::queue_resets::QueueResets;
use crate::receive_buffer::{DATA_ALIGNMENT, ReceiveBuffer};
use crate::share::{ClientShare, Share};
use crate::submission::Submission;
use crate::traces::Traces;

pub mod abort;
mod answers;
mod resets;
mod slot_state;
mod special;

/// A request that waits until no held request overlaps it.
struct Parked {
    slot: u16,
    request: Request,
    io: Io,
}

/// The request that is being received: its header has come.
enum Arriving {
    /// No request is being received.
    Nothing,
    /// The request will be executed. `at` is the number of bytes of its data in the I/O object.
    ToExecute { request: Request, slot: u16, digest: u32, io: Io, at: usize },
    /// The request will be answered with this status. Its data is skipped.
    ToAnswer { slot: u16, status: Status },
}

/// What the caller has to do with a request that was received, or of which a part is finished.
pub enum Dispatch {
    /// Submit this to the backend, and call [`Queue::completed`] with its completion.
    Submit(Submission),
    /// Nothing: the request is answered or parked, or the control thread decides about it.
    Nothing,
    /// End the connection: its lease was over at this time, µs, and the request was dropped.
    LeaseOver(u64),
}

/// The parameters of a queue.
pub struct Setup {
    /// The device, with the operations that the host may use.
    pub device: Device,
    /// The maximum length of a request in bytes.
    pub max_transfer: u32,
    /// Whether data has digests.
    pub has_digests: bool,
    /// The record of the session's queue.
    pub slots: Slots,
    /// The client's share of the group's pools.
    pub client_share: Rc<ClientShare>,
    /// The client's held requests, as the group knows them.
    pub holds: Rc<ClientHolds>,
    /// The number of the queue's connection.
    pub connection: u64,
    /// The resets of backends.
    pub backend_resets: Arc<BackendResets>,
    /// The alignment of data in memory that the backend requires, in bytes.
    pub required_alignment: usize,
}

/// Returns true if no request that came under this lease may be begun any more.
#[inline]
pub fn is_over(lease: &Granted, now_us: u64) -> bool {
    lease.is_over(now_us) && !is_on(Mutation::NoLeaseAtTarget)
}

/// The requests of one connection, and the record of their answers.
pub struct Queue {
    setup: Setup,
    work: Box<[SlotState]>,
    arriving: Arriving,
    /// The Answers that wait to be sent.
    answers: Answers,
    in_backend: usize,
    share: Share,
    resets: QueueResets,
    /// The id of the newest request that had to wait for memory, or 0 if there is none.
    stalled: u64,
    /// Requests that wait because held ones overlap them.
    parked: Vec<Parked>,
    unmaps: PartSize,
    zeroes: PartSize,
    pub traces: Traces,
    pub stats: Stats,
}

impl Queue {
    pub fn new(setup: Setup) -> Queue {
        let credits = setup.slots.credits();
        let share = Share::new(Rc::clone(&setup.client_share));
        let part_size = PartSize::new(setup.device.block_size, setup.device.write_unit_size);
        let resets = QueueResets::new(Arc::clone(&setup.backend_resets));
        Queue {
            setup,
            work: (0..credits).map(|_| SlotState::unused()).collect(),
            arriving: Arriving::Nothing,
            answers: Answers::with_capacity(credits),
            in_backend: 0,
            share,
            resets,
            stalled: 0,
            parked: Vec::new(),
            unmaps: part_size,
            zeroes: part_size,
            traces: Traces::default(),
            stats: Stats::default(),
        }
    }

    /// Sets the device's new size.
    pub fn resized(&mut self, num_blocks: u64) {
        self.setup.device.num_blocks = num_blocks;
    }

    /// Returns the number of requests that the backend has.
    pub fn in_backend(&self) -> usize {
        self.in_backend
    }

    /// Returns true if an Answer waits to be sent.
    pub fn wants_to_send(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Returns the numbers of waiting Answers and of requests in the backend.
    pub fn backlog(&self) -> Backlog {
        Backlog { in_backend: self.in_backend, answers: self.answers.count(), bytes: self.answers.bytes() }
    }

    /// Returns true if the first waiting Answer is partly sent.
    pub fn is_mid_frame(&self) -> bool {
        self.answers.is_mid_frame()
    }

    /// Handles the header of a request. Takes the I/O object and memory that the request needs, so
    /// that its data can be received. HOT.
    ///
    /// # Errors
    /// Fails if the header violates the protocol. The connection is then over.
    pub fn header(
        &mut self,
        header: &Header,
        here: Option<Here<'_, ReceiveBuffer>>,
        pools: &Pools,
    ) -> Result<Flow, Violation> {
        let slot = slot_of(header.id);
        if let Some(&SlotState { unsent: other, .. }) = self.work.get(usize::from(slot))
            && other != 0
        {
            // The client can't have received the Answer yet, so it must not use the slot again.
            return Err(Violation::SlotBusy { id: header.id, other });
        }
        let has_digest = header.flags.contains(Flags::DIGEST);
        if header.data_len > 0 && has_digest != self.setup.has_digests {
            return Err(Violation::Digest(header.id, has_digest));
        }
        let request = match check(header, &self.setup.device, self.setup.max_transfer)? {
            Checked::Execute(request) => request,
            Checked::Reject(status) => {
                // If the request was executed while it was still valid, its Answer is repeated.
                let status = match self.setup.slots.arrive(header.id, Op::from_code(header.code)?)? {
                    Arrival::Execute => status,
                    Arrival::Repeat(recorded) => recorded,
                };
                self.arriving = Arriving::ToAnswer { slot, status };
                return Ok(Flow::Go);
            }
        };
        let room = request.request_len.max(request.answer_len) as usize;
        let kept = here.and_then(|here| self.keep(&request, here, pools));
        let (flow, at) = if kept.is_some() { (Flow::Keep, room) } else { (Flow::Go, 0) };
        let Some(io) = kept.or_else(|| pools.take(room, &mut self.share)) else {
            if self.stalled != header.id {
                // The header is handled again when there is memory, perhaps more than once.
                self.stalled = header.id;
                self.stats.stalls += 1;
            }
            return Ok(Flow::Stall);
        };
        let arrival = self.setup.slots.arrive(header.id, request.op);
        if self.traces.are_on() && arrival.is_ok() {
            self.traces.received(header.id, &request);
        }
        match arrival {
            Ok(Arrival::Execute) => {
                let digest = header.digest;
                self.arriving = Arriving::ToExecute { request, slot, digest, io, at };
                Ok(flow)
            }
            Ok(Arrival::Repeat(status)) => {
                pools.put(io, &mut self.share);
                self.stats.repeated += 1;
                self.arriving = Arriving::ToAnswer { slot, status };
                Ok(Flow::Go)
            }
            Err(violation) => {
                pools.put(io, &mut self.share);
                Err(violation)
            }
        }
    }

    /// Returns an I/O object for a write whose data can stay where it was received. HOT.
    #[inline]
    fn keep(&mut self, request: &Request, here: Here<'_, ReceiveBuffer>, pools: &Pools) -> Option<Io> {
        let alignment = self.setup.required_alignment.max(DATA_ALIGNMENT);
        let ReceiveBuffer::Pooled(chunk) = here.buffer else { return None };
        if request.op != Op::Write || !here.data.start.is_multiple_of(alignment) {
            return None;
        }
        pools.pin(chunk, here.data, &mut self.share)
    }

    /// Handles the next bytes of the request's data. HOT.
    pub fn data(&mut self, bytes: &[u8]) {
        if let Arriving::ToExecute { io, at, .. } = &mut self.arriving {
            io.data.copy_in(*at, bytes);
            *at += bytes.len();
        }
    }

    /// Adds the memory for the rest of the request's data to `iov`. Returns the number of bytes
    /// added, which is 0 if the data is skipped.
    pub fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        match &mut self.arriving {
            Arriving::ToExecute { request, io, at, .. } => {
                iov.push_dma(&mut io.data, *at, request.request_len as usize - *at)
            }
            _ => 0,
        }
    }

    /// Notes that `len` bytes of the request's data were received into the memory from
    /// [`Queue::place`].
    pub fn received_in_place(&mut self, len: usize) {
        if let Arriving::ToExecute { at, .. } = &mut self.arriving {
            *at += len;
        }
    }

    /// Handles the end of a request, which was received completely. `clock` is read right before
    /// the request would go to the backend: the process may have been stopped since the group last
    /// read the clock, even in the middle of a poll.
    pub fn end(&mut self, lease: &Granted, pools: &Pools, clock: impl FnOnce() -> u64) -> Dispatch {
        match std::mem::replace(&mut self.arriving, Arriving::Nothing) {
            Arriving::Nothing => unreachable!("a request ends after its header"),
            Arriving::ToAnswer { slot, status } => {
                self.answer(slot, status, None);
                Dispatch::Nothing
            }
            Arriving::ToExecute { request, slot, digest, io, .. } => {
                let len = request.request_len as usize;
                if self.setup.has_digests && len > 0 && digest_of(&io, len) != digest {
                    self.corrupt(slot, io, pools);
                    return Dispatch::Nothing;
                }
                let now_us = clock();
                if is_over(lease, now_us) {
                    self.setup.slots.withdraw(slot);
                    pools.put(io, &mut self.share);
                    self.stats.dropped += 1;
                    return Dispatch::LeaseOver(now_us);
                }
                if request.op == Op::Reset {
                    self.stats.begin(&request);
                    let work = &mut self.work[usize::from(slot)];
                    (work.op, work.begun_us, work.course) = (Op::Reset, now_us, Course::Whole);
                    pools.put(io, &mut self.share);
                    self.resets.ask(slot);
                    return Dispatch::Nothing;
                }
                if self.setup.holds.stop(request.op, request.start, request.count) {
                    self.parked.push(Parked { slot, request, io });
                    return Dispatch::Nothing;
                }
                if is_on(Mutation::StaleRead) && request.op == Op::Read {
                    self.stats.begin(&request);
                    self.work[usize::from(slot)].data_len = request.answer_len as usize;
                    self.answer(slot, Status::Success, Some(io));
                    return Dispatch::Nothing;
                }
                Dispatch::Submit(self.submission(slot, &request, io, now_us))
            }
        }
    }

    /// Returns the submission of a request, or of its first part, and counts the request as in the
    /// backend.
    fn submission(&mut self, slot: u16, request: &Request, mut io: Io, now_us: u64) -> Submission {
        self.stats.begin(request);
        if self.traces.are_on() {
            self.traces.submitted(self.setup.slots.busy(slot), request);
        }
        let Request { op, start, count, answer_len, .. } = *request;
        let work = &mut self.work[usize::from(slot)];
        work.data_len = answer_len as usize;
        work.op = op;
        work.start = start;
        work.count = count;
        work.begun_us = now_us;
        work.course = Course::Whole;
        io.ctx.slot = slot;
        self.in_backend += 1;
        let (start, count) = match op {
            // A flush covers the whole device, whose size here is never less than the client knows.
            Op::Flush => (0, self.setup.device.num_blocks),
            Op::Unmap | Op::WriteZeroes => self.begin_parts(slot, request, now_us),
            _ => (start, count),
        };
        Submission { io, op, start, count }
    }

    /// Handles the completion of a request, or of its last part, and answers the request. HOT.
    pub fn completed(&mut self, io: Io, status: Status, now_us: u64, pools: &Pools) {
        self.in_backend -= 1;
        let slot = io.ctx.slot;
        let work = &self.work[usize::from(slot)];
        if status != Status::Success {
            self.stats.fail(work.op);
        }
        self.stats.end(work.op, now_us.saturating_sub(work.begun_us));
        let has_data = status == Status::Success && work.data_len > 0;
        if self.traces.are_on() {
            self.traces.completed(self.setup.slots.busy(slot), work.data_len, status);
        }
        if has_data {
            self.answer(slot, status, Some(io));
        } else {
            pools.put(io, &mut self.share);
            self.answer(slot, status, None);
        }
    }

    /// Handles the failure of a request that is not answered, so that the client sends it again.
    /// Returns a notice if the request was held.
    #[cold]
    pub fn withdraw(&mut self, io: Io, now_us: u64, pools: &Pools) -> Option<HoldNotice> {
        self.in_backend -= 1;
        let work = &mut self.work[usize::from(io.ctx.slot)];
        // A flush that has failed counts, whatever becomes of it: the next one may succeed although data
        // is lost, and no stop note may be left.
        self.stats.fail(work.op);
        self.stats.end(work.op, now_us.saturating_sub(work.begun_us));
        let course = std::mem::replace(&mut work.course, Course::Whole);
        let id = self.setup.slots.withdraw(io.ctx.slot);
        pools.put(io, &mut self.share);
        self.released(course, id)
    }

    fn answer(&mut self, slot: u16, status: Status, io: Option<Io>) {
        let id = self.setup.slots.answered(slot, status);
        self.send(slot, id, status, io);
    }

    /// Tells the client to send a request again whose data does not match its digest.
    fn corrupt(&mut self, slot: u16, io: Io, pools: &Pools) {
        pools.put(io, &mut self.share);
        self.stats.corrupt += 1;
        let id = self.setup.slots.withdraw(slot);
        self.send(slot, id, Status::Corrupt, None);
    }

    fn send(&mut self, slot: u16, id: u64, status: Status, io: Option<Io>) {
        let work = &mut self.work[usize::from(slot)];
        work.answer(id, status, io, self.setup.has_digests);
        self.answers.push(slot, work.answer_len());
    }

    /// Adds waiting Answers to `iov`, as far as there is room. `is_first_only` adds only the first
    /// one. HOT.
    pub fn outgoing<'a>(&'a self, iov: &mut Iov<'a>, is_first_only: bool) {
        self.answers.outgoing(&self.work, iov, is_first_only);
    }

    /// Notes that the first `bytes` bytes of [`Queue::outgoing`] were sent. HOT.
    pub fn sent(&mut self, bytes: usize, pools: &Pools) {
        self.answers.sent(&mut self.work, bytes, |work| {
            if self.traces.are_on() {
                self.traces.answered(work.unsent, work.data_len, &work.header);
            }
            if let Some(io) = work.end() {
                pools.put(io, &mut self.share);
            }
        });
    }

    /// Drops the waiting Answers, for which no client waits any more.
    pub fn drop_answers(&mut self, pools: &Pools) {
        for slot in self.answers.drop_all() {
            if let Some(io) = self.work[usize::from(slot)].end() {
                pools.put(io, &mut self.share);
            }
        }
    }

    /// Ends everything that only an existing connection needs. I/O in the backend goes on.
    pub fn disconnected(&mut self, pools: &Pools) {
        self.begin_no_more(pools);
        self.drop_answers(pools);
    }

    /// Drops all that has come and is not in the backend. I/O in the backend goes on, and what is
    /// answered can still be sent.
    pub fn begin_no_more(&mut self, pools: &Pools) {
        self.drop_parked(pools);
        match std::mem::replace(&mut self.arriving, Arriving::Nothing) {
            Arriving::Nothing => {}
            Arriving::ToAnswer { slot, .. } => {
                self.setup.slots.withdraw(slot);
            }
            Arriving::ToExecute { slot, io, .. } => {
                self.setup.slots.withdraw(slot);
                pools.put(io, &mut self.share);
            }
        }
        self.end_resets(pools);
    }

    /// Returns the record for the queue's next connection.
    ///
    /// # Panics
    /// Panics if the backend still has a request.
    pub fn into_slots(self) -> Slots {
        assert_eq!(self.in_backend, 0, "the record is not final while the backend works");
        self.setup.slots
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
