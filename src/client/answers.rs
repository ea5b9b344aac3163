//! Receives Answers: data goes to the user's vectors, completions to the user.

use dst_session::Violation;
use dst_session::durability::{Durability, Effect};
use dst_session::mutation::{Mutation, is_on};
use dst_session::transactions::{Answer, Awaited, Request, Transactions};
use dst_transport::{Flow, Frames, Here};
use dst_wire::{Crc32c, Header, Kind, Op, Status};
use spdk::backend::IoStatus;
use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};
use spdk::iov::IovMut;

use crate::channels::Standing;
use crate::counters::Counters;
use crate::traces::Traces;

/// An I/O that is a transaction.
pub struct Pending {
    pub io: BdevIo,
    /// The number of a flush, as [`Durability`] counts them; 0 for other I/O.
    pub flush: u64,
}

/// Returns the operation that does an I/O of this kind.
pub fn op_of(kind: IoKind) -> Option<Op> {
    Some(match kind {
        IoKind::Read => Op::Read,
        IoKind::Write => Op::Write,
        IoKind::Flush => Op::Flush,
        IoKind::Unmap => Op::Unmap,
        IoKind::WriteZeroes => Op::WriteZeroes,
        IoKind::CompareAndWrite => Op::CompareAndWrite,
        IoKind::Reset => Op::Reset,
        IoKind::Other => return None,
    })
}

/// Returns the digest of the first `len` bytes of an I/O's data.
pub fn digest_of(io: &BdevIo, len: usize) -> u32 {
    Crc32c::of_pieces(len, |at| io.slice(at))
}

/// The Answer that is being received.
#[derive(Debug, Default)]
pub struct ReceivingAnswer {
    answer: Option<Answer>,
    at: usize,
    /// The number of the newest acknowledged keep-alive. The caller takes it out.
    pub acknowledged: Option<u64>,
}

/// What a connection's Answers mean for the durability of writes.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub durability: &'a Durability,
    /// The start of the target that answers.
    pub start: u64,
    /// Whether the device forgets writes that were not flushed when the target dies.
    pub is_volatile: bool,
}

/// Takes the frames that a channel receives.
pub struct Answers<'a> {
    pub transactions: &'a mut Transactions<Pending>,
    pub incoming: &'a mut ReceivingAnswer,
    pub standing: &'a Standing,
    /// Takes the resets that the target has done.
    pub held: &'a mut BdevIoQueue,
    /// Takes the I/O of transactions that were aborted, as the target has let go of them.
    pub overdue: &'a mut BdevIoQueue,
    pub record: Record<'a>,
    /// The time by which deadlines are counted, µs.
    pub patient_us: u64,
    pub traces: Traces,
}

impl Frames for Answers<'_> {
    type Buffer = [u8];

    fn header(&mut self, header: &Header, _: Option<Here<'_, [u8]>>) -> Result<Flow, Violation> {
        self.incoming.answer = match header.kind {
            Kind::Answer => Some(self.transactions.answer(header)?),
            Kind::KeepAliveAck => {
                self.incoming.acknowledged = self.incoming.acknowledged.max(Some(header.id));
                None
            }
            Kind::Held if is_on(Mutation::AbortIsEnough) => None,
            Kind::Held => {
                self.overdue.push_back(self.transactions.held(header)?.io);
                None
            }
            Kind::Event | Kind::Goodbye => None,
            other => return Err(Violation::Unexpected(other)),
        };
        self.incoming.at = 0;
        Ok(Flow::Go)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(answer) = self.incoming.answer
            && answer.awaited != Awaited::ByNobody
        {
            self.transactions.user_mut(answer.slot).io.copy_in(self.incoming.at, bytes);
            self.incoming.at += bytes.len();
        }
        Ok(())
    }

    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        let Some(answer) = self.incoming.answer.filter(|answer| answer.awaited != Awaited::ByNobody) else {
            return 0;
        };
        let at = self.incoming.at;
        iov.push_io(&mut self.transactions.user_mut(answer.slot).io, at, answer.data_len as usize - at)
    }

    fn received_in_place(&mut self, len: usize) {
        self.incoming.at += len;
    }

    fn end(&mut self) -> Result<(), Violation> {
        let Some(answer) = self.incoming.answer.take() else { return Ok(()) };
        if answer.awaited == Awaited::ByNobody {
            self.transactions.release(answer.slot);
            return Ok(());
        }
        if self.is_corrupt(&answer) {
            Counters::add(&self.standing.counters.corrupt, 1);
            let digest = self.transactions.has_digests().then(|| self.request_digest(answer.slot)).flatten();
            if self.traces.are_on() {
                let size = self.transactions.request(answer.slot).request_len;
                self.traces.repeated(self.transactions.id(answer.slot), size);
            }
            return self.transactions.repeat(answer.slot, digest);
        }
        let (pending, request, begun_us) = self.transactions.finish(answer.slot);
        if self.traces.are_on() {
            self.traces.done(self.transactions.id(answer.slot), answer.data_len, answer.status);
        }
        if answer.status == Status::Aborted && answer.awaited == Awaited::Overdue {
            self.overdue.push_back(pending.io);
            return Ok(());
        }
        self.standing.counters.took(&request, self.patient_us.saturating_sub(begun_us));
        if answer.status != Status::Success {
            Counters::add(&self.standing.counters.errors, 1);
        } else if self.record.is_volatile {
            self.note(&request, &pending);
        }
        if request.op == Op::Reset && answer.status == Status::Success {
            self.held.push_back(pending.io);
            return Ok(());
        }
        // The user may submit its next I/O inside this: that only touches the channel's waiting
        // queue.
        pending.io.complete(io_status(answer.status));
        Ok(())
    }
}

impl Answers<'_> {
    /// Returns whether data was changed on its way to the target or back.
    fn is_corrupt(&mut self, answer: &Answer) -> bool {
        let Some(digest) = answer.digest.filter(|_| answer.data_len > 0) else {
            return answer.status == Status::Corrupt;
        };
        let io = &self.transactions.user_mut(answer.slot).io;
        digest_of(io, answer.data_len as usize) != digest
    }

    fn request_digest(&mut self, slot: u16) -> Option<u32> {
        let len = self.transactions.request(slot).request_len as usize;
        (len > 0).then(|| digest_of(&self.transactions.user_mut(slot).io, len))
    }

    /// Notes which writes a restart of the target may lose from now on, or can't lose any more.
    fn note(&self, request: &Request, pending: &Pending) {
        let Record { durability, start, .. } = self.record;
        match Effect::of(request.op) {
            Effect::Write => durability.wrote(&self.standing.written, start),
            Effect::Flush => durability.flushed(start, pending.flush),
            Effect::Nothing => {}
        }
    }
}

fn io_status(status: Status) -> IoStatus {
    match status {
        Status::Success => IoStatus::Success,
        Status::Miscompare => IoStatus::Miscompare,
        Status::Aborted => IoStatus::Aborted,
        Status::Failed | Status::NotSupported | Status::OutOfRange | Status::ReadOnly | Status::Corrupt => {
            IoStatus::Failed
        }
    }
}
