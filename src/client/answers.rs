//! Receives Answers: copies their data to the user's vectors and completes the user's I/O.

use dst_session::Violation;
use dst_session::durability::{Durability, Effect};
use dst_session::mutation::{Mutation, is_on};
use dst_session::transactions::{Answer, Awaited, Request, Transactions};
use dst_transport::{Flow, Frames, Here};
use dst_wire::{Crc32c, Flags, Header, Kind, Op, Status};
use spdk::backend::IoStatus;
use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};
use spdk::iov::IovMut;

use crate::channels::Standing;
use crate::counters::Counters;
use crate::traces::Traces;

/// The user's I/O behind an outstanding transaction.
pub struct Pending {
    pub io: BdevIo,
    /// The number of a flush, as [`Durability`] counts them; 0 for other I/O.
    pub flush: u64,
}

/// Returns the operation that carries out an I/O of this kind, or `None` if there is none.
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
    /// The number of the newest keep-alive whose acknowledgement has come. The caller takes the
    /// number out.
    pub acknowledged: Option<u64>,
    /// Whether the target has said that it has executed nothing that it has not answered.
    pub was_told_goodbye: bool,
}

/// What is needed to decide whether a completed write is durable.
#[derive(Debug, Clone, Copy)]
pub struct DurabilityContext<'a> {
    pub durability: &'a Durability,
    /// The number of the target's start, as [`Durability`] counts starts.
    pub start: u64,
    /// Whether the device forgets writes that were not flushed when the target dies.
    pub is_volatile: bool,
}

/// Handles the frames that a channel receives.
pub struct Answers<'a> {
    pub transactions: &'a mut Transactions<Pending>,
    pub incoming: &'a mut ReceivingAnswer,
    pub standing: &'a Standing,
    /// Receives the resets that the target has carried out, until they may complete.
    pub held: &'a mut BdevIoQueue,
    /// Receives the I/O of aborted transactions once the target has confirmed the abort. The I/O is
    /// to fail.
    pub overdue: &'a mut BdevIoQueue,
    pub durability: DurabilityContext<'a>,
    /// The time on the clock of deadlines, µs.
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
            Kind::Goodbye => {
                self.incoming.was_told_goodbye |= header.flags.contains(Flags::NOT_EXECUTED);
                None
            }
            Kind::Event => None,
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
        } else if self.durability.is_volatile {
            self.note(&request, &pending);
        }
        if request.op == Op::Reset && answer.status == Status::Success {
            self.held.push_back(pending.io);
            return Ok(());
        }
        // The user may submit the next I/O inside this call, which touches only the queue of
        // waiting I/O.
        pending.io.complete(io_status(answer.status));
        Ok(())
    }
}

impl Answers<'_> {
    /// Returns true if data was changed on the way to the target or back.
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

    /// Notes a completed write, which a restart of the target may lose, or a completed flush, which
    /// makes earlier writes durable.
    fn note(&self, request: &Request, pending: &Pending) {
        let DurabilityContext { durability, start, .. } = self.durability;
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
