//! A queue's part in resets: Resets that its client asks for, and I/O that a reset of the backend
//! has ended.
//!
//! The control thread answers a Reset. Until then, its slot is busy, and the backend has nothing of
//! it. A round of resets also waits for aborted requests that the backend still has: a successful
//! reset promises that none of them is executed any more.
//!
//! If a reset has ended a part of an operation, that part is executed again, and the next parts
//! follow. I/O that is to be executed again also waits until no held request overlaps it. An
//! aborted request is not executed again, and its hold ends.

use dst_session::reexecution::{FailedIo, LastReset, is_due};
use dst_session::transactions::slot_of;
use dst_wire::Status;

use super::Queue;
use super::slot_state::Course;
use crate::completion::Io;
use crate::pools::Pools;
use crate::queue_resets::EndedIo;

impl Queue {
    /// Returns the slot of the next Reset that the control thread was not told of yet.
    #[inline]
    pub fn next_asked(&mut self) -> Option<u16> {
        let resets = &mut self.resets;
        let at = resets.asked.len().checked_sub(resets.untold).filter(|_| resets.untold > 0)?;
        resets.untold -= 1;
        Some(resets.asked[at])
    }

    /// Answers a Reset with the control thread's decision.
    pub fn answer_reset(&mut self, slot: u16, status: Status, now_us: u64) {
        let Some(at) = self.resets.asked.iter().position(|&asked| asked == slot) else { return };
        self.resets.asked.remove(at);
        if status != Status::Success {
            self.stats.errors += 1;
        }
        let work = &self.work[usize::from(slot)];
        self.stats.end(work.op, now_us.saturating_sub(work.begun_us));
        self.answer(slot, status, None);
    }

    /// Notes that a round of resets waits for all requests that the queue has now, except for
    /// Resets.
    pub fn quiesce(&mut self, round: u64) {
        let is_reset = |id: u64| self.resets.asked.contains(&slot_of(id));
        let busy = self.setup.slots.all_busy().filter(|&id| !is_reset(id));
        self.resets.awaited = Some((round, busy.collect()));
    }

    /// Notes that a round of resets has failed and no longer waits for the queue.
    pub fn abandon(&mut self, round: u64) {
        self.resets.awaited.take_if(|(awaited, _)| *awaited == round);
    }

    /// Returns the round that need not wait for the queue any longer, once.
    pub fn quiesced(&mut self) -> Option<u64> {
        let (round, left) = self.resets.awaited.as_mut()?;
        left.retain(|&id| self.setup.slots.busy(slot_of(id)) == id);
        let quiesced = left.is_empty().then_some(*round);
        if quiesced.is_some() {
            self.resets.awaited = None;
        }
        quiesced
    }

    /// Notes that a reset of the backend for this session begins or has ended.
    pub fn own_reset(&mut self, has_ended: bool, now_us: u64) {
        self.resets.own = if has_ended { LastReset::Ended(now_us) } else { LastReset::UnderWay };
    }

    /// Returns true if a failed I/O is to be executed again, because a reset for another session
    /// may have ended it.
    #[cold]
    pub fn is_executed_again(&self, io: &Io, status: Status) -> bool {
        let slot = io.ctx.slot;
        let work = &self.work[usize::from(slot)];
        let submitted_us = match work.course {
            Course::Whole => work.begun_us,
            Course::Parts(part) => part.begun_us,
            // The client does not wait for an aborted request any longer.
            Course::Aborted { .. } => return false,
        };
        let times = self.resets.repeats.of(self.setup.slots.busy(slot));
        let failed = FailedIo { op: work.op, status, submitted_us, times };
        failed.is_executed_again(self.resets.backend.last(), self.resets.own)
    }

    /// Keeps an I/O that a reset has ended until it can be executed again. The I/O still counts as
    /// in the backend.
    pub fn keep_ended(&mut self, io: Io, now_us: u64) {
        let id = self.setup.slots.busy(io.ctx.slot);
        let slots = &self.setup.slots;
        self.resets.repeats.count(id, |other| slots.busy(slot_of(other)) == other);
        self.resets.ended.push(EndedIo { io, at_us: now_us });
    }

    /// Removes and returns the next I/O that can be executed again: the resets are over, and no
    /// held request overlaps it.
    pub fn next_ended(&mut self, now_us: u64) -> Option<Io> {
        let last = self.resets.backend.last();
        let may_go = |ended: &EndedIo| {
            let work = &self.work[usize::from(ended.io.ctx.slot)];
            is_due(last, ended.at_us, now_us) && !self.setup.holds.stop(work.op, work.start, work.count)
        };
        let at = self.resets.ended.iter().position(may_go)?;
        let io = self.resets.ended.remove(at).io;
        // The I/O counts as submitted now: only a later reset can end it.
        let work = &mut self.work[usize::from(io.ctx.slot)];
        match &mut work.course {
            Course::Parts(part) => part.begun_us = now_us,
            Course::Whole | Course::Aborted { .. } => work.begun_us = now_us,
        }
        self.stats.executed_again += 1;
        Some(io)
    }

    /// Returns true if the queue still has something to do for resets.
    pub fn is_attended(&self) -> bool {
        self.resets.awaited.is_some() || !self.resets.ended.is_empty()
    }

    /// Drops the Resets and the I/O that is to be executed again, because the connection is gone.
    pub fn end_resets(&mut self, pools: &Pools) {
        self.resets.awaited = None;
        self.resets.untold = 0;
        for slot in std::mem::take(&mut self.resets.asked) {
            self.setup.slots.withdraw(slot);
        }
        for EndedIo { io, at_us } in std::mem::take(&mut self.resets.ended) {
            let released = self.withdraw(io, at_us, pools);
            assert!(released.is_none(), "what a reset has ended is not held");
        }
    }

    /// Removes and returns the I/O of this slot if a reset has ended it. It is not executed again,
    /// because its client has aborted it.
    pub(super) fn take_ended(&mut self, slot: u16) -> Option<Io> {
        let at = self.resets.ended.iter().position(|ended| ended.io.ctx.slot == slot)?;
        let EndedIo { io, at_us } = self.resets.ended.remove(at);
        self.in_backend -= 1;
        let work = &self.work[usize::from(slot)];
        self.stats.end(work.op, at_us.saturating_sub(work.begun_us));
        Some(io)
    }
}
