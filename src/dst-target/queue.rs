//! One connection's transactions at the target: received, in the backend, waiting to be sent.

use std::collections::VecDeque;
use std::rc::Rc;

use dst_broker::Stats;
use dst_session::Violation;
use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::request::{Checked, check};
use dst_session::slots::{Arrival, Slots};
use dst_session::transactions::{Request, slot_of};
use dst_transport::Flow;
use dst_wire::{Crc32c, Device, Flags, HEADER_LEN, Header, Kind, Op, Status};
use spdk::backend::Channel;
use spdk::clock::now_us;
use spdk::iov::{Iov, IovMut};

use crate::backend::{Io, OwnerShare, Pools, Share, submit};
use crate::connection::Connection;
use crate::group::{GATHER_FROM, GATHERED, GATHERED_BYTES};

/// An answer, from the backend's completion until it is sent.
struct Work {
    /// The transaction whose answer waits to be sent, or is on the wire in part; 0: none.
    unsent: u64,
    header: [u8; HEADER_LEN],
    /// Holds the answer's data.
    io: Option<Io>,
    data_len: usize,
    op: Op,
    begun_us: u64,
}

/// The request whose data is coming in.
enum Incoming {
    /// None.
    Nothing,
    /// It will be executed.
    Execute { request: Request, slot: u16, digest: u32, io: Io, at: usize },
    /// It will be answered with this; its data is passed over.
    Answer { slot: u16, status: Status },
}

/// What control gives a connection that may carry requests.
pub struct Setup {
    /// The export's bdev, on this thread.
    pub channel: Channel,
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
}

/// Whether nothing that came under this lease may be executed any more.
#[inline]
pub fn is_over(lease: &Granted, now_us: u64) -> bool {
    lease.is_over(now_us) && !is_on(Mutation::NoLeaseAtTarget)
}

/// The digest of the first `len` bytes of an I/O's data.
fn digest_of(io: &Io, len: usize) -> u32 {
    Crc32c::of_pieces(len, |at| io.data.slice(at))
}

/// A connection's transactions.
pub struct Queue {
    setup: Setup,
    work: Box<[Work]>,
    incoming: Incoming,
    to_send: VecDeque<u16>,
    sent_of_first: usize,
    /// Bytes of all in `to_send`.
    to_send_bytes: usize,
    in_backend: usize,
    share: Share,
    /// The newest request that had to wait for memory; 0: none.
    stalled: u64,
    pub stats: Stats,
}

impl Queue {
    pub fn new(setup: Setup) -> Queue {
        let credits = setup.slots.credits();
        let work =
            || Work { unsent: 0, header: [0; HEADER_LEN], io: None, data_len: 0, op: Op::Read, begun_us: 0 };
        let share = Share::new(Rc::clone(&setup.owner));
        Queue {
            setup,
            work: (0..credits).map(|_| work()).collect(),
            incoming: Incoming::Nothing,
            to_send: VecDeque::with_capacity(credits.into()),
            sent_of_first: 0,
            to_send_bytes: 0,
            in_backend: 0,
            share,
            stalled: 0,
            stats: Stats::default(),
        }
    }

    /// The device has another size now.
    pub fn resized(&mut self, num_blocks: u64) {
        self.setup.device.num_blocks = num_blocks;
    }

    /// Transactions in the backend.
    pub fn in_backend(&self) -> usize {
        self.in_backend
    }

    /// Whether an answer waits to be sent.
    pub fn wants_to_send(&self) -> bool {
        !self.to_send.is_empty()
    }

    /// Whether more answers are worth waiting for: several will come, and there are not many yet.
    pub fn gathers(&self) -> bool {
        self.in_backend >= GATHER_FROM && self.to_send.len() < GATHERED && self.to_send_bytes < GATHERED_BYTES
    }

    /// Whether the first answer is on the wire in part.
    pub fn is_mid_frame(&self) -> bool {
        self.sent_of_first > 0
    }

    /// A request's header came. Takes what executing it needs, so that its data has a place.
    pub fn header(&mut self, header: &Header, pools: &Pools) -> Result<Flow, Violation> {
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
                self.incoming = Incoming::Answer { slot, status };
                return Ok(Flow::Go);
            }
        };
        let room = request.request_len.max(request.answer_len) as usize;
        let Some(io) = pools.take(room, &mut self.share) else {
            if self.stalled != header.id {
                // It will come here again, perhaps more than once.
                self.stalled = header.id;
                self.stats.stalls += 1;
            }
            return Ok(Flow::Stall);
        };
        match self.setup.slots.arrive(header.id, request.op) {
            Ok(Arrival::Execute) => {
                let digest = header.digest;
                self.incoming = Incoming::Execute { request, slot, digest, io, at: 0 };
            }
            Ok(Arrival::Repeat(status)) => {
                pools.put(io, &mut self.share);
                self.stats.repeated += 1;
                self.incoming = Incoming::Answer { slot, status };
            }
            Err(violation) => {
                pools.put(io, &mut self.share);
                return Err(violation);
            }
        }
        Ok(Flow::Go)
    }

    /// Bytes of the request's data.
    pub fn data(&mut self, bytes: &[u8]) {
        if let Incoming::Execute { io, at, .. } = &mut self.incoming {
            io.data.copy_in(*at, bytes);
            *at += bytes.len();
        }
    }

    /// Where the rest of the request's data belongs.
    pub fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        match &mut self.incoming {
            Incoming::Execute { request, io, at, .. } => {
                iov.push_dma(&mut io.data, *at, request.request_len as usize - *at)
            }
            _ => 0,
        }
    }

    /// Bytes of the request's data were received to their place.
    pub fn placed(&mut self, len: usize) {
        if let Incoming::Execute { at, .. } = &mut self.incoming {
            *at += len;
        }
    }

    /// The request is complete: to the backend with it, or its answer to the client.
    ///
    /// # Errors
    /// The lease is over, so it is dropped. What the clock showed is given: this process may have been
    /// stopped since the group last looked, in the middle of a poll even.
    pub fn end(&mut self, connection: &Rc<Connection>, lease: &Granted) -> Result<(), u64> {
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Nothing => {}
            Incoming::Answer { slot, status } => self.answer(slot, status, None),
            Incoming::Execute { request, slot, digest, mut io, .. } => {
                let len = request.request_len as usize;
                if self.setup.has_digests && len > 0 && digest_of(&io, len) != digest {
                    self.corrupt(slot, io, &connection.group().pools);
                    return Ok(());
                }
                let now_us = now_us();
                if is_over(lease, now_us) {
                    self.setup.slots.withdraw(slot);
                    connection.group().pools.put(io, &mut self.share);
                    self.stats.dropped += 1;
                    return Err(now_us);
                }
                self.stats.begin(&request);
                let work = &mut self.work[usize::from(slot)];
                work.data_len = request.answer_len as usize;
                work.op = request.op;
                work.begun_us = now_us;
                if is_on(Mutation::StaleRead) && request.op == Op::Read {
                    self.answer(slot, Status::Success, Some(io));
                    return Ok(());
                }
                io.ctx.connection = Some(Rc::clone(connection));
                io.ctx.slot = slot;
                self.in_backend += 1;
                let in_backend = &connection.group().pools.in_backend;
                in_backend.set(in_backend.get() + 1);
                submit(&self.setup.channel, io, &request, self.setup.device.num_blocks);
            }
        }
        Ok(())
    }

    /// The backend has finished a transaction.
    pub fn completed(&mut self, io: Io, status: Status, now_us: u64, pools: &Pools) {
        self.in_backend -= 1;
        if status != Status::Success {
            self.stats.errors += 1;
        }
        let slot = io.ctx.slot;
        let work = &self.work[usize::from(slot)];
        self.stats.end(work.op, now_us.saturating_sub(work.begun_us));
        let has_data = status == Status::Success && work.data_len > 0;
        if has_data {
            self.answer(slot, status, Some(io));
        } else {
            pools.put(io, &mut self.share);
            self.answer(slot, status, None);
        }
    }

    fn answer(&mut self, slot: u16, status: Status, io: Option<Io>) {
        let id = self.setup.slots.answered(slot, status);
        self.send(slot, id, status, io);
    }

    /// A request's data is not what the client sent: it is to send it again.
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

    /// Adds what waits to be sent, as far as there is room.
    pub fn outgoing<'a>(&'a self, iov: &mut Iov<'a>) {
        for (i, &slot) in self.to_send.iter().enumerate() {
            if iov.remaining_capacity() < 2 {
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

    /// So many bytes of [`Queue::outgoing`] are on the wire.
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
            work.unsent = 0;
            if let Some(io) = work.io.take() {
                pools.put(io, &mut self.share);
            }
        }
    }

    /// The connection is gone: puts back what only it needed. The backend's I/O goes on.
    pub fn disconnected(&mut self, pools: &Pools) {
        match std::mem::replace(&mut self.incoming, Incoming::Nothing) {
            Incoming::Nothing => {}
            Incoming::Answer { slot, .. } => {
                self.setup.slots.withdraw(slot);
            }
            Incoming::Execute { slot, io, .. } => {
                self.setup.slots.withdraw(slot);
                pools.put(io, &mut self.share);
            }
        }
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

    /// The record, for the queue's next connection.
    pub fn into_slots(self) -> Slots {
        assert_eq!(self.in_backend, 0, "the record is not final while the backend works");
        self.setup.slots
    }
}
