//! Requests that their client has aborted, and requests that are parked because they overlap held
//! ones.

use dst_session::Violation;
use dst_session::holds::HoldId;
use dst_session::lease::Granted;
use dst_session::transactions::{Request, slot_of};
use dst_wire::{Op, Status};

use super::slot_state::Course;
use super::{Parked, Queue, is_over};
use crate::holds::{HeldRequest, HoldNotice};
use crate::pools::Pools;
use crate::submission::Submission;

/// The outcome of an Abort.
#[derive(Debug, PartialEq, Eq)]
pub enum Abort {
    /// The request was answered before, or will be in any case.
    Answered,
    /// The backend has the request, which modifies nothing: the client can be told at once that it
    /// is held.
    Held,
    /// The backend has the request, which all groups are to hold before the client is told.
    Hold(HoldNotice),
}

/// The next parked request that need not wait any longer.
pub enum Unparked {
    /// There is no such request.
    Nothing,
    /// Submit this to the backend.
    Submit(Submission),
    /// End the connection: its lease was over at this time, µs.
    LeaseOver(u64),
}

impl Queue {
    /// Handles the Abort of a request, for which the client does not wait any longer.
    ///
    /// # Errors
    /// Fails if the slot was not granted.
    pub fn abort(&mut self, id: u64, pools: &Pools) -> Result<Abort, Violation> {
        let (slot, credits) = (slot_of(id), self.setup.slots.credits());
        if slot >= credits {
            return Err(Violation::Slot { id, slot, credits });
        }
        if !self.setup.slots.is_busy(id) {
            return Ok(Abort::Answered);
        }
        if let Some(at) = self.parked.iter().position(|parked| parked.slot == slot) {
            let parked = self.parked.remove(at);
            pools.put(parked.io, &mut self.share);
            self.answer(slot, Status::Aborted, None);
            return Ok(Abort::Answered);
        }
        if let Some(io) = self.take_ended(slot) {
            pools.put(io, &mut self.share);
            self.work[usize::from(slot)].course = Course::Whole;
            self.answer(slot, Status::Aborted, None);
            return Ok(Abort::Answered);
        }
        let work = &mut self.work[usize::from(slot)];
        if work.op == Op::Reset {
            // The control thread answers Resets.
            return Ok(Abort::Answered);
        }
        let is_held = work.op.modifies();
        let (start, count, is_cut) = match work.course {
            // The request was aborted before.
            Course::Aborted { .. } => return Ok(Abort::Answered),
            Course::Whole => (work.start, work.count, false),
            Course::Parts(part) => (part.start, part.count, !part.is_last()),
        };
        work.course = Course::Aborted { is_held, is_cut };
        if !is_held {
            return Ok(Abort::Held);
        }
        let client = self.setup.holds.client().clone();
        Ok(Abort::Hold(HoldNotice::Hold(HeldRequest { client, id: self.hold_id(id), start, count })))
    }

    /// Returns true if the request was aborted and the backend still has it, so that the client may
    /// be told that it is held.
    pub fn is_aborted(&self, id: u64) -> bool {
        let is_aborted = |slot: u16| matches!(self.work[usize::from(slot)].course, Course::Aborted { .. });
        self.setup.slots.is_busy(id) && is_aborted(slot_of(id))
    }

    /// Returns the notice that ends the hold of a request which the backend has finished, if it was
    /// held.
    pub(super) fn released(&self, course: Course, request: u64) -> Option<HoldNotice> {
        let Course::Aborted { is_held: true, .. } = course else { return None };
        Some(HoldNotice::Release { client: self.setup.holds.client().clone(), id: self.hold_id(request) })
    }

    fn hold_id(&self, request: u64) -> HoldId {
        HoldId { connection: self.setup.connection, request }
    }

    /// Removes and returns a parked request that need not wait any longer. `clock` is read right
    /// before the request would go to the backend.
    pub fn unpark(&mut self, lease: &Granted, clock: impl FnOnce() -> u64) -> Unparked {
        let stops = |parked: &Parked| {
            let Request { op, start, count, .. } = parked.request;
            self.setup.holds.stop(op, start, count)
        };
        let Some(at) = self.parked.iter().position(|parked| !stops(parked)) else { return Unparked::Nothing };
        let now_us = clock();
        if is_over(lease, now_us) {
            // The parked requests are dropped with the connection.
            return Unparked::LeaseOver(now_us);
        }
        let Parked { slot, request, io } = self.parked.remove(at);
        Unparked::Submit(self.submission(slot, &request, io, now_us))
    }

    /// Drops the parked requests, because the connection is gone.
    pub(super) fn drop_parked(&mut self, pools: &Pools) {
        for Parked { slot, io, .. } in std::mem::take(&mut self.parked) {
            self.setup.slots.withdraw(slot);
            pools.put(io, &mut self.share);
            self.stats.dropped += 1;
        }
    }
}
