//! All I/O of a channel: I/O that waits, transactions in the slab, the Answer that is being
//! received, and resets that wait for other channels.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use dst_session::mutation::{Mutation, is_on};
use dst_session::transactions::{DigestOf, Past, Request, Transactions, Unanswered, slot_of};
use dst_transport::Broken;
use dst_wire::{Device, Digest, Header, InNewSession, Kind, Op, Welcome};
use spdk::backend::IoStatus;
use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};
use spdk::iov::Iov;

use crate::answers::{Answers, DurabilityContext, Pending, ReceivingAnswer, digest_of, op_of};
use crate::channels::Standing;
use crate::connection::Connection;
use crate::counters::Counters;
use crate::shared::Shared;
use crate::traces::Traces;
use crate::waiting::WaitingIo;

/// A channel's I/O.
pub struct ChannelIo {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    /// The device as it was when the bdev was registered, with the operations of the newest
    /// Welcome.
    device: Device,
    waiting: Rc<WaitingIo>,
    transactions: Transactions<Pending>,
    incoming: ReceivingAnswer,
    /// Resets that wait until every channel has ended the I/O that it had. Not what the target
    /// *holds*, which are transactions.
    held: BdevIoQueue,
    /// I/O of aborted transactions that the target no longer executes. This I/O is to fail.
    overdue: BdevIoQueue,
    /// Whether the target at the other end of the connection supports aborts.
    has_aborts: bool,
    /// The number of losses of the target's cache that this channel has reported.
    losses_seen: u64,
    traces: Traces,
}

/// How an I/O that was sent ends without an Answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrepeated {
    /// With an error.
    Failed,
    /// With an error, because it was sent as often as allowed.
    Expired,
}

impl ChannelIo {
    /// Returns an empty `ChannelIo`.
    pub fn new(
        shared: &Arc<Shared>,
        standing: &Arc<Standing>,
        device: Device,
        waiting: Rc<WaitingIo>,
    ) -> ChannelIo {
        ChannelIo {
            shared: Arc::clone(shared),
            standing: Arc::clone(standing),
            device,
            waiting,
            transactions: Transactions::new(shared.options().queue_depth),
            incoming: ReceivingAnswer::default(),
            held: BdevIoQueue::new(),
            overdue: BdevIoQueue::new(),
            has_aborts: false,
            losses_seen: shared.durability().reported(),
            traces: Traces::default(),
        }
    }

    fn counters(&self) -> &Counters {
        &self.standing.counters
    }

    /// Updates the counters that show how much I/O is outstanding and how much waits.
    pub fn count_now(&self) {
        let counters = self.counters();
        counters.outstanding.store(self.transactions.outstanding() as u64, Relaxed);
        counters.waiting.store(self.waiting.len() as u64, Relaxed);
    }

    /// Stamps the I/O that was submitted since the last call with `now_us`.
    pub fn stamp_new(&self, now_us: u64) {
        self.waiting.stamp_new(now_us);
    }

    /// Returns the number of outstanding transactions.
    pub fn outstanding(&self) -> usize {
        self.transactions.outstanding()
    }

    /// Returns true if the target holds a transaction.
    pub fn has_held(&self) -> bool {
        self.transactions.has_held()
    }

    /// Returns true if a frame of more than `small` bytes is outstanding in either direction.
    pub fn has_larger(&self, small: u32) -> bool {
        self.transactions.any(|request| request.request_len.max(request.answer_len) > small)
    }

    /// Returns when the oldest outstanding transaction was submitted.
    pub fn oldest_sent_us(&self) -> Option<u64> {
        self.transactions.oldest_us()
    }

    /// Returns when the oldest waiting I/O was submitted.
    pub fn oldest_waiting_us(&self) -> Option<u64> {
        self.waiting.oldest_us()
    }

    /// Removes the oldest outstanding transaction and returns its I/O. To be called only without a
    /// connection.
    pub fn take_oldest_sent(&mut self) -> Option<BdevIo> {
        self.transactions.abandon_oldest().map(|pending| pending.io)
    }

    /// Removes and returns the oldest waiting I/O.
    pub fn take_oldest_waiting(&mut self) -> Option<BdevIo> {
        self.waiting.pop()
    }

    /// Receives Answers and completes the I/O that they answer. `start` is the target's start
    /// as `Durability::start` counts them, and `now_us` the time on the clock of deadlines. Returns
    /// true if anything was received.
    ///
    /// # Errors
    /// Fails if the connection is lost or the target violates the protocol.
    #[inline]
    pub fn receive(
        &mut self,
        connection: &mut Connection,
        buffer: &mut [u8],
        start: u64,
        now_us: u64,
    ) -> Result<bool, Broken> {
        let durability = DurabilityContext {
            durability: self.shared.durability(),
            start,
            is_volatile: self.device.write_cache,
        };
        let mut answers = Answers {
            transactions: &mut self.transactions,
            incoming: &mut self.incoming,
            standing: &self.standing,
            held: &mut self.held,
            overdue: &mut self.overdue,
            durability,
            patient_us: now_us,
            traces: self.traces,
        };
        let pumped = connection.receiver.pump(&mut connection.stream, buffer, &mut answers)?;
        Ok(pumped.received > 0)
    }

    /// Returns true if the target supports aborts.
    pub fn has_aborts(&self) -> bool {
        self.has_aborts
    }

    /// Sends an Abort for each transaction whose time of submission satisfies `is_late`, once for
    /// each transaction.
    pub fn abort(&mut self, connection: &mut Connection, is_late: impl Fn(u64) -> bool) {
        let mut aborted = None;
        self.transactions.abort(is_late, |id| {
            connection.outbox.push(Header { id, ..Header::new(Kind::Abort) }, &[]);
            aborted = Some(id);
        });
        if is_on(Mutation::AbortIsEnough)
            && let Some(id) = aborted
            && self.transactions.request(slot_of(id)).op.modifies()
            && let Ok(pending) = self.transactions.held(&Header { id, ..Header::new(Kind::Held) })
        {
            self.overdue.push_back(pending.io);
        }
    }

    /// Removes and returns an aborted I/O that the target no longer executes.
    #[inline]
    pub fn take_overdue(&mut self) -> Option<BdevIo> {
        self.overdue.pop_front()
    }

    /// Removes and returns the number of the newest keep-alive whose acknowledgement has come.
    pub fn take_acknowledged(&mut self) -> Option<u64> {
        self.incoming.acknowledged.take()
    }

    /// Begins waiting I/O as far as there are credits. Returns true if any was begun.
    #[inline]
    pub fn begin_waiting(&mut self, now_us: u64) -> bool {
        let mut has_begun = false;
        // What the user submits meanwhile, because an I/O fails at once, waits for the next turn: it
        // came after `now_us`, and may fail at once as well.
        for _ in 0..self.waiting.len() {
            // Resets are begun elsewhere, at the next turn, because all channels take part in them.
            if !self.transactions.has_credit() || self.waiting.has_reset() {
                break;
            }
            let Some(io) = self.waiting.next(now_us) else { break };
            if !has_begun {
                self.traces.look();
            }
            self.begin(io);
            has_begun = true;
        }
        has_begun
    }

    /// Makes a transaction of an I/O. The caller has checked that there is a credit.
    fn begin(&mut self, io: BdevIo) {
        let fail = |io: BdevIo| {
            Counters::add(&self.standing.counters.errors, 1);
            io.complete(IoStatus::Failed);
        };
        let Some(op) = op_of(io.kind()).filter(|&op| self.device.ops.contains(op)) else { return fail(io) };
        let (start, count) = if op.has_range() { (io.offset_blocks(), io.num_blocks()) } else { (0, 0) };
        if op.has_range() && count == 0 {
            // SPDK has checked the range. An empty one succeeds, as on any other bdev, and a
            // request must not be empty.
            return io.complete(IoStatus::Success);
        }
        let bytes = count.saturating_mul(self.device.block_size.into());
        let (request_len, answer_len) = (op.request_data(bytes), op.answer_data(bytes));
        let (Ok(request_len), Ok(answer_len)) = (request_len.try_into(), answer_len.try_into()) else {
            return fail(io);
        };
        let mut flush = 0;
        if op == Op::Flush && self.device.write_cache {
            let durability = self.shared.durability();
            if durability.must_report(&mut self.losses_seen) {
                return fail(io);
            }
            flush = durability.flush_begins();
        }
        Counters::add(&self.standing.counters.transactions, 1);
        let request = Request { op, start, count, request_len, answer_len };
        let stamp = io.stamp();
        let has_digest = request_len > 0 && self.transactions.has_digests();
        let digest = has_digest.then(|| digest_of(&io, request_len as usize));
        match self.transactions.begin(request, Pending { io, flush }, stamp, digest) {
            Ok(slot) if self.traces.are_on() => {
                self.traces.submitted(self.transactions.id(slot), &request);
            }
            Ok(_) => {}
            Err(pending) => pending.io.complete(IoStatus::Failed),
        }
    }

    /// Sends waiting frames, as many as the socket takes.
    ///
    /// # Errors
    /// Fails if the connection is lost.
    #[inline]
    pub fn send(&mut self, connection: &mut Connection) -> Result<(), Broken> {
        let transactions = &mut self.transactions;
        loop {
            if connection.outbox.is_empty() && !transactions.wants_to_send() {
                if connection.stream.unsent() > 0 {
                    connection.stream.writev(&Iov::new())?;
                }
                return Ok(());
            }
            let mut iov = Iov::new();
            let mut control = 0;
            if !transactions.is_mid_frame() {
                control = connection.outbox.pending().len();
                iov.push(connection.outbox.pending());
            }
            // A frame in the outbox may refer to a request that is sent again behind the first
            // frame, so the outbox has to follow directly after the first frame.
            let is_first_only = transactions.is_mid_frame() && !connection.outbox.is_empty();
            for (i, out) in transactions.outgoing().enumerate() {
                if i > 0 && is_first_only {
                    break;
                }
                // A header without its data would be correct, but would cost another system call.
                if iov.remaining_capacity() < 2 {
                    break;
                }
                iov.push(out.header);
                if iov.push_io(&out.user.io, out.data_from, out.data_len) < out.data_len {
                    break;
                }
            }
            let wanted = iov.len_bytes();
            let began = self.traces.sending();
            let sent = connection.stream.writev(&iov)?;
            let of_control = sent.min(control);
            connection.outbox.sent(of_control);
            if self.traces.are_on() {
                let age_ns = |pending: &Pending| pending.io.age_ns();
                self.traces.sent(transactions, sent - of_control, began, age_ns);
            }
            transactions.sent(sent - of_control);
            if sent < wanted {
                return Ok(());
            }
        }
    }

    /// Returns true if anything waits to be sent.
    pub fn wants_to_send(&self) -> bool {
        self.transactions.wants_to_send()
    }

    /// Returns true if the target has said that it has executed nothing that it has not answered.
    pub fn was_told_goodbye(&self) -> bool {
        self.incoming.was_told_goodbye
    }

    /// Notes that the connection is gone. Nothing is begun or sent until [`ChannelIo::connected`].
    pub fn disconnected(&mut self) {
        let unanswered =
            if self.was_told_goodbye() { Unanswered::NotExecuted } else { Unanswered::MayBeExecuted };
        self.transactions.disconnected(unanswered);
    }

    /// Prepares to send all outstanding transactions again on a new connection. Returns their
    /// number, or `None` with nothing changed if more slots are in use than the target grants.
    pub fn connected(&mut self, welcome: &Welcome) -> Option<usize> {
        let again = self.transactions.outstanding();
        let digest = |pending: &Pending, len: usize| digest_of(&pending.io, len);
        let digest: Option<DigestOf<'_, Pending>> =
            if welcome.digest == Digest::Crc32c { Some(&digest) } else { None };
        if !self.transactions.grant(welcome.credits, digest) {
            return None;
        }
        // The host may have gained or lost the right to write.
        self.device.ops = welcome.device.ops;
        self.has_aborts = welcome.aborts;
        Counters::add(&self.counters().resent, again as u64);
        self.incoming = ReceivingAnswer::default();
        self.traces.connected(&welcome.session, &self.transactions);
        Some(again)
    }

    /// Fails the transactions that must not be sent in another session, whose target does not know
    /// which of them were executed: operations that must not be executed twice and may have been
    /// executed once, and flushes if writes may be lost. Returns the number of failed transactions. To be called only without a
    /// connection.
    pub fn fail_unrepeatable(&mut self, repeats_all: bool) -> usize {
        // If no flush is outstanding, the next flush that begins reports the loss.
        let lost_writes = self.device.write_cache
            && self.transactions.any(|request| request.op == Op::Flush)
            && self.shared.durability().must_report(&mut self.losses_seen);
        self.fail_sent(Unrepeated::Failed, |request, past| match request.op.describe().in_new_session {
            InNewSession::SentAgain => false,
            InNewSession::SentAgainUnlessWritesWereLost => lost_writes,
            InNewSession::Fails => past.unanswered == Unanswered::MayBeExecuted && !repeats_all,
        })
    }

    /// Fails the transactions that were sent again `most` times. Returns their number. To be called
    /// only without a connection.
    pub fn fail_repeated(&mut self, most: u32) -> usize {
        self.fail_sent(Unrepeated::Expired, |_, past| past.resends >= most)
    }

    fn fail_sent(&mut self, how: Unrepeated, which: impl Fn(&Request, Past) -> bool) -> usize {
        let counters = &self.standing.counters;
        let mut failed = 0;
        self.transactions.abandon(which, |pending| {
            failed += 1;
            Counters::add(&counters.errors, 1);
            if how == Unrepeated::Expired {
                Counters::add(&counters.expired, 1);
            }
            pending.io.complete(IoStatus::Failed);
        });
        failed
    }

    /// Completes all sent I/O with this status, for mutations that take a protection away.
    pub fn end_sent(&mut self, status: IoStatus) {
        self.transactions.abandon(|_, _| true, |pending| pending.io.complete(status));
    }

    /// Returns true if a reset was submitted and not begun.
    #[inline]
    pub fn reset_waits(&self) -> bool {
        self.waiting.has_reset()
    }

    /// Returns true if a reset is outstanding.
    pub fn has_sent_reset(&self) -> bool {
        self.transactions.any(|request| request.op == Op::Reset)
    }

    /// Returns true if anything but resets is outstanding.
    pub fn has_sent_other_than_resets(&self) -> bool {
        self.transactions.any(|request| request.op != Op::Reset)
    }

    /// Aborts the waiting I/O and begins the resets among it.
    ///
    /// # Errors
    /// Fails if there is no credit for a reset, which is held instead.
    pub fn begin_resets(&mut self, now_us: u64) -> Result<(), Broken> {
        self.waiting.stamp_new(now_us);
        let mut sent = Ok(());
        while let Some(reset) = self.abort_to_next_reset() {
            if self.transactions.has_credit() {
                self.begin(reset);
            } else {
                self.held.push_back(reset);
                sent = Err(Broken::ResetWaits);
            }
        }
        sent
    }

    /// Aborts the waiting I/O and holds the resets among it.
    pub fn hold_resets(&mut self) {
        while let Some(reset) = self.abort_to_next_reset() {
            self.held.push_back(reset);
        }
    }

    /// Aborts the waiting I/O up to the next reset. Returns that reset.
    fn abort_to_next_reset(&mut self) -> Option<BdevIo> {
        // I/O that the user submits inside one of these completions has no stamp yet, so it is not
        // found here. It came after the reset.
        while let Some(io) = self.waiting.pop() {
            if io.kind() == IoKind::Reset {
                return Some(io);
            }
            Counters::add(&self.counters().errors, 1);
            io.complete(IoStatus::Aborted);
        }
        None
    }

    /// Aborts the sent I/O and holds the resets among it. To be called only without a connection.
    pub fn abort_sent(&mut self) {
        let (counters, held) = (&self.standing.counters, &mut self.held);
        let end = |Pending { io, .. }: Pending| {
            if io.kind() == IoKind::Reset {
                return held.push_back(io);
            }
            Counters::add(&counters.errors, 1);
            io.complete(IoStatus::Aborted);
        };
        self.transactions.abandon(|_, _| true, end);
    }

    /// Returns true if resets wait for other channels.
    #[inline]
    pub fn holds_resets(&self) -> bool {
        !self.held.is_empty()
    }

    /// Completes the resets that waited for other channels.
    pub fn complete_held(&mut self) {
        while let Some(reset) = self.held.pop_front() {
            reset.complete(IoStatus::Success);
        }
    }
}
