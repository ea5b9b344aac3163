//! One connection's requests at the target: received, in the backend, answered.
//!
//! A queue knows neither its connection nor its bdev: it takes what it needs as arguments, and returns
//! what is to be submitted and sent.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use dst_broker::Stats;
use dst_session::Violation;
use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::parts::{InParts, PartSize};
use dst_session::request::{Checked, check};
use dst_session::slots::{Arrival, Slots};
use dst_session::transactions::{Request, slot_of};
use dst_transport::{Flow, Here};
use dst_wire::{Crc32c, Device, Flags, HEADER_LEN, Header, Kind, Op, Status};
use spdk::iov::{Iov, IovMut};

use crate::backend_resets::BackendResets;
use crate::completion::Io;
use crate::gathering::Backlog;
use crate::holds::{HoldNotice, OwnerHolds};
use crate::pools::Pools;
use crate::queue_resets::QueueResets;
use crate::receive_buffer::{DATA_ALIGNMENT, ReceiveBuffer};
use crate::share::{OwnerShare, Share};
use crate::submission::Submission;
use crate::traces::Traces;

pub mod abort;
mod resets;
mod special;

/// An answer, from the backend's completion until it is sent.
struct Work {
    /// The transaction whose answer waits to be sent, or is on the wire in part; 0: none.
    unsent: u64,
    header: [u8; HEADER_LEN],
    /// Holds the answer's data.
    io: Option<Io>,
    data_len: usize,
    op: Op,
    /// The range, while the backend has it.
    start: u64,
    count: u64,
    begun_us: u64,
    course: Course,
}

/// How a request goes to the backend and comes back.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// At once, and its answer is the backend's.
    Whole,
    /// In parts, of which this one is under way.
    Parts(InParts),
    /// Its client has aborted it. `is_held`: what overlaps it waits. `is_cut`: there would be more
    /// parts, which are not begun.
    Aborted { is_held: bool, is_cut: bool },
}

/// A request that waits until nothing that it overlaps is held.
struct Parked {
    slot: u16,
    request: Request,
    io: Io,
}

/// The request whose header has come, and whose data is coming in.
enum Arriving {
    /// There is none.
    Nothing,
    /// It will be executed. `at`: how many bytes of its data are in the I/O object.
    ToExecute { request: Request, slot: u16, digest: u32, io: Io, at: usize },
    /// It will be answered with this status. Its data is passed over.
    ToAnswer { slot: u16, status: Status },
}

/// What is to be done with a request that has come completely.
pub enum Ended {
    /// It goes to the backend. [`Queue::completed`] is to be called with its completion.
    Submit(Submission),
    /// Nothing: its answer waits to be sent, it waits itself, or the control thread decides about it.
    Answered,
    /// Nothing: the lease was over when the clock showed this, µs, and the request was dropped.
    LeaseOver(u64),
}

/// What a queue needs to carry requests.
pub struct Setup {
    /// What was negotiated.
    pub device: Device,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// Whether data has digests.
    pub has_digests: bool,
    /// The record of the session's queue.
    pub slots: Slots,
    /// What its owner has of the group's pools.
    pub owner: Rc<OwnerShare>,
    /// What is held of its owner in the group.
    pub holds: Rc<OwnerHolds>,
    /// The number of its connection.
    pub connection: u64,
    /// The resets of backends.
    pub backend_resets: Arc<BackendResets>,
    /// The alignment of data in memory that the backend requires, in bytes.
    pub required_alignment: usize,
}

/// Returns whether nothing that came under this lease may be executed any more.
#[inline]
pub fn is_over(lease: &Granted, now_us: u64) -> bool {
    lease.is_over(now_us) && !is_on(Mutation::NoLeaseAtTarget)
}

/// Returns the digest of the first `len` bytes of an I/O's data.
fn digest_of(io: &Io, len: usize) -> u32 {
    Crc32c::of_pieces(len, |at| io.data.slice(at))
}

/// The requests of one connection, and the record of their answers.
pub struct Queue {
    setup: Setup,
    work: Box<[Work]>,
    arriving: Arriving,
    to_send: VecDeque<u16>,
    sent_of_first: usize,
    /// Bytes of all answers in `to_send`.
    to_send_bytes: usize,
    in_backend: usize,
    share: Share,
    resets: QueueResets,
    /// The newest request that had to wait for memory; 0: none.
    stalled: u64,
    /// Requests that wait because of what is held.
    parked: Vec<Parked>,
    unmaps: PartSize,
    zeroes: PartSize,
    pub traces: Traces,
    pub stats: Stats,
}

impl Queue {
    pub fn new(setup: Setup) -> Queue {
        let credits = setup.slots.credits();
        let work = || Work {
            unsent: 0,
            header: [0; HEADER_LEN],
            io: None,
            data_len: 0,
            op: Op::Read,
            start: 0,
            count: 0,
            begun_us: 0,
            course: Course::Whole,
        };
        let share = Share::new(Rc::clone(&setup.owner));
        let part_size = PartSize::new(setup.device.block_size, setup.device.write_unit_size);
        let resets = QueueResets::new(Arc::clone(&setup.backend_resets));
        Queue {
            setup,
            work: (0..credits).map(|_| work()).collect(),
            arriving: Arriving::Nothing,
            to_send: VecDeque::with_capacity(credits.into()),
            sent_of_first: 0,
            to_send_bytes: 0,
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

    /// The device has another size from now on.
    pub fn resized(&mut self, num_blocks: u64) {
        self.setup.device.num_blocks = num_blocks;
    }

    /// Returns how many requests the backend has.
    pub fn in_backend(&self) -> usize {
        self.in_backend
    }

    /// Returns whether an answer waits to be sent.
    pub fn wants_to_send(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// Returns what waits to be sent, and what is still to come.
    pub fn backlog(&self) -> Backlog {
        Backlog { in_backend: self.in_backend, answers: self.to_send.len(), bytes: self.to_send_bytes }
    }

    /// Returns whether the first answer is on the wire in part.
    pub fn is_mid_frame(&self) -> bool {
        self.sent_of_first > 0
    }

    /// A request's header has come. Takes what executing the request needs, so that its data has a
    /// place. HOT.
    ///
    /// # Errors
    /// The client may not send this: its connection is over.
    pub fn header(
        &mut self,
        header: &Header,
        here: Option<Here<'_, ReceiveBuffer>>,
        pools: &Pools,
    ) -> Result<Flow, Violation> {
        let slot = slot_of(header.id);
        if let Some(&Work { unsent: other, .. }) = self.work.get(usize::from(slot))
            && other != 0
        {
            // The client can't have the answer yet, so the slot is not its to use.
            return Err(Violation::SlotBusy { id: header.id, other });
        }
        let has_digest = header.flags.contains(Flags::DIGEST);
        if header.data_len > 0 && has_digest != self.setup.has_digests {
            return Err(Violation::Digest(header.id, has_digest));
        }
        let request = match check(header, &self.setup.device, self.setup.max_transfer)? {
            Checked::Execute(request) => request,
            Checked::Reject(status) => {
                // One that was executed when it still could be has the answer that it had.
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
                // It will come here again, perhaps more than once.
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

    /// The next bytes of the request's data have come. HOT.
    pub fn data(&mut self, bytes: &[u8]) {
        if let Arriving::ToExecute { io, at, .. } = &mut self.arriving {
            io.data.copy_in(*at, bytes);
            *at += bytes.len();
        }
    }

    /// Adds the place of the rest of the request's data to `iov`. Returns how many bytes were added: none
    /// if the data is passed over.
    pub fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        match &mut self.arriving {
            Arriving::ToExecute { request, io, at, .. } => {
                iov.push_dma(&mut io.data, *at, request.request_len as usize - *at)
            }
            _ => 0,
        }
    }

    /// So many bytes of the request's data were received to their place.
    pub fn received_in_place(&mut self, len: usize) {
        if let Arriving::ToExecute { at, .. } = &mut self.arriving {
            *at += len;
        }
    }

    /// The request is complete. `clock` is read right before a request would go to the backend: this
    /// process may have been stopped since its group last looked, even in the middle of a poll.
    pub fn end(&mut self, lease: &Granted, pools: &Pools, clock: impl FnOnce() -> u64) -> Ended {
        match std::mem::replace(&mut self.arriving, Arriving::Nothing) {
            Arriving::Nothing => unreachable!("a request ends after its header"),
            Arriving::ToAnswer { slot, status } => {
                self.answer(slot, status, None);
                Ended::Answered
            }
            Arriving::ToExecute { request, slot, digest, io, .. } => {
                let len = request.request_len as usize;
                if self.setup.has_digests && len > 0 && digest_of(&io, len) != digest {
                    self.corrupt(slot, io, pools);
                    return Ended::Answered;
                }
                let now_us = clock();
                if is_over(lease, now_us) {
                    self.setup.slots.withdraw(slot);
                    pools.put(io, &mut self.share);
                    self.stats.dropped += 1;
                    return Ended::LeaseOver(now_us);
                }
                if request.op == Op::Reset {
                    self.stats.begin(&request);
                    let work = &mut self.work[usize::from(slot)];
                    (work.op, work.begun_us, work.course) = (Op::Reset, now_us, Course::Whole);
                    pools.put(io, &mut self.share);
                    self.resets.ask(slot);
                    return Ended::Answered;
                }
                if self.setup.holds.stop(request.op, request.start, request.count) {
                    self.parked.push(Parked { slot, request, io });
                    return Ended::Answered;
                }
                if is_on(Mutation::StaleRead) && request.op == Op::Read {
                    self.stats.begin(&request);
                    self.work[usize::from(slot)].data_len = request.answer_len as usize;
                    self.answer(slot, Status::Success, Some(io));
                    return Ended::Answered;
                }
                Ended::Submit(self.submission(slot, &request, io, now_us))
            }
        }
    }

    /// Returns what the backend is given of a request, of which the backend has something from now on.
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
            // A flush is of the whole device: as large as the client may know it to be, or larger.
            Op::Flush => (0, self.setup.device.num_blocks),
            Op::Unmap | Op::WriteZeroes => self.begin_parts(slot, request, now_us),
            _ => (start, count),
        };
        Submission { io, op, start, count }
    }

    /// The backend has finished a request, or the last part of one. HOT.
    pub fn completed(&mut self, io: Io, status: Status, now_us: u64, pools: &Pools) {
        self.in_backend -= 1;
        if status != Status::Success {
            self.stats.errors += 1;
        }
        let slot = io.ctx.slot;
        let work = &self.work[usize::from(slot)];
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

    /// The backend has failed a request which is not answered, so that the client sends it again.
    /// Returns what is not held any longer.
    #[cold]
    pub fn withdraw(&mut self, io: Io, now_us: u64, pools: &Pools) -> Option<HoldNotice> {
        self.in_backend -= 1;
        self.stats.errors += 1;
        let work = &mut self.work[usize::from(io.ctx.slot)];
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

    /// A request's data is not what the client sent. The client is to send it again.
    fn corrupt(&mut self, slot: u16, io: Io, pools: &Pools) {
        pools.put(io, &mut self.share);
        self.stats.corrupt += 1;
        let id = self.setup.slots.withdraw(slot);
        self.send(slot, id, Status::Corrupt, None);
    }

    fn send(&mut self, slot: u16, id: u64, status: Status, io: Option<Io>) {
        let work = &mut self.work[usize::from(slot)];
        if io.is_none() {
            work.data_len = 0;
        }
        let mut header = Header::new(Kind::Answer);
        if let Some(io) = &io
            && self.setup.has_digests
        {
            header.flags = Flags::DIGEST;
            header.digest = digest_of(io, work.data_len);
        }
        work.io = io;
        work.unsent = id;
        header.code = status as u8;
        header.id = id;
        header.data_len = work.data_len as u32;
        work.header = header.encode();
        self.to_send_bytes += HEADER_LEN + work.data_len;
        self.to_send.push_back(slot);
    }

    /// Adds what waits to be sent to `iov`, as far as there is room. HOT.
    pub fn outgoing<'a>(&'a self, iov: &mut Iov<'a>, is_first_only: bool) {
        for (i, &slot) in self.to_send.iter().enumerate() {
            if iov.remaining_capacity() < 2 || i > 0 && is_first_only {
                return;
            }
            let work = &self.work[usize::from(slot)];
            let sent = if i == 0 { self.sent_of_first } else { 0 };
            iov.push(&work.header[sent.min(HEADER_LEN)..]);
            if let Some(io) = &work.io {
                let from = sent.saturating_sub(HEADER_LEN);
                let len = work.data_len - from;
                if iov.push_dma(&io.data, from, len) < len {
                    return;
                }
            }
        }
    }

    /// So many bytes of [`Queue::outgoing`] are on the wire. HOT.
    pub fn sent(&mut self, mut bytes: usize, pools: &Pools) {
        while bytes > 0 {
            let slot = *self.to_send.front().expect("more was sent than there was");
            let work = &mut self.work[usize::from(slot)];
            let len = HEADER_LEN + work.data_len;
            let left = len - self.sent_of_first;
            if bytes < left {
                self.sent_of_first += bytes;
                return;
            }
            bytes -= left;
            self.sent_of_first = 0;
            self.to_send.pop_front();
            self.to_send_bytes -= len;
            if self.traces.are_on() {
                self.traces.answered(work.unsent, work.data_len, &work.header);
            }
            work.unsent = 0;
            if let Some(io) = work.io.take() {
                pools.put(io, &mut self.share);
            }
        }
    }

    /// The connection is gone: puts back what only it needed. The backend's I/O goes on.
    pub fn disconnected(&mut self, pools: &Pools) {
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
        self.drop_answers(pools);
    }

    /// Forgets answers that nobody waits for any more.
    pub fn drop_answers(&mut self, pools: &Pools) {
        self.sent_of_first = 0;
        self.to_send_bytes = 0;
        while let Some(slot) = self.to_send.pop_front() {
            let work = &mut self.work[usize::from(slot)];
            work.unsent = 0;
            if let Some(io) = work.io.take() {
                pools.put(io, &mut self.share);
            }
        }
    }

    /// Returns the record, for the queue's next connection.
    ///
    /// # Panics
    /// The backend still has a request.
    pub fn into_slots(self) -> Slots {
        assert_eq!(self.in_backend, 0, "the record is not final while the backend works");
        self.setup.slots
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
