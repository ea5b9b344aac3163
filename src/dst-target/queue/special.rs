//! Completions other than those of whole requests: parts of operations, and aborted requests.
//! [`dst_session::parts`] decides the size of parts.
//!
//! The backend has one part of a request at a time, and the request counts as in the backend all
//! the while. If the connection is over, the next part is not begun. The request then counts as not
//! executed, and the client sends it again.

use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::parts::{InParts, PartSize};
use dst_session::transactions::Request;
use dst_wire::{Op, Status};

use super::slot_state::Course;
use super::{Dispatch, Queue, is_over};
use crate::completion::Io;
use crate::holds::HoldNotice;
use crate::pools::Pools;
use crate::submission::Submission;

impl Queue {
    fn part_size(&mut self, op: Op) -> &mut PartSize {
        if op == Op::Unmap { &mut self.unmaps } else { &mut self.zeroes }
    }

    /// Begins a request in parts. Returns the range of the first part: its first block and the
    /// number of blocks.
    pub(super) fn begin_parts(&mut self, slot: u16, request: &Request, now_us: u64) -> (u64, u64) {
        let Request { op, start, count, .. } = *request;
        let part = InParts::new(self.part_size(op), start, count, now_us);
        self.work[usize::from(slot)].course = Course::Parts(part);
        (part.start, part.count)
    }

    /// Returns true if the completion is one for [`Queue::special_completed`].
    #[inline]
    pub fn is_special(&self, io: &Io) -> bool {
        !matches!(self.work[usize::from(io.ctx.slot)].course, Course::Whole)
    }

    /// Handles the completion of a part of a request, or of an aborted request. Returns what is to
    /// be done, and a notice if a hold ends. `lease` is the lease of the connection if it is open;
    /// otherwise, no further part is begun. `clock` is read right before the next part would go to
    /// the backend.
    pub fn special_completed(
        &mut self,
        io: Io,
        status: Status,
        pools: &Pools,
        lease: Option<&Granted>,
        clock: impl FnOnce() -> u64,
    ) -> (Dispatch, Option<HoldNotice>) {
        let now_us = clock();
        let work = &mut self.work[usize::from(io.ctx.slot)];
        match std::mem::replace(&mut work.course, Course::Whole) {
            Course::Parts(part) => (self.part_completed(part, io, status, pools, lease, now_us), None),
            course @ Course::Aborted { is_cut, .. } => {
                // Some parts were not executed, even if all that were have succeeded.
                let status = if is_cut && status == Status::Success { Status::Aborted } else { status };
                let slot = io.ctx.slot;
                self.completed(io, status, now_us, pools);
                let id = self.work[usize::from(slot)].unsent;
                (Dispatch::Nothing, self.released(course, id))
            }
            Course::Whole => unreachable!("the caller has asked"),
        }
    }

    fn part_completed(
        &mut self,
        part: InParts,
        io: Io,
        status: Status,
        pools: &Pools,
        lease: Option<&Granted>,
        now_us: u64,
    ) -> Dispatch {
        let slot = io.ctx.slot;
        let op = self.work[usize::from(slot)].op;
        let next = part.next(self.part_size(op), now_us).filter(|_| !is_on(Mutation::FirstPartOnly));
        let Some(next) = next.filter(|_| status == Status::Success) else {
            self.completed(io, status, now_us, pools);
            return Dispatch::Nothing;
        };
        let goes_on = lease.is_some_and(|lease| !is_over(lease, now_us));
        if !goes_on {
            self.in_backend -= 1;
            self.stats.end(op, now_us.saturating_sub(self.work[usize::from(slot)].begun_us));
            self.setup.slots.withdraw(slot);
            pools.put(io, &mut self.share);
            self.stats.dropped += 1;
            return if lease.is_some() { Dispatch::LeaseOver(now_us) } else { Dispatch::Nothing };
        }
        self.work[usize::from(slot)].course = Course::Parts(next);
        Dispatch::Submit(Submission { io, op, start: next.start, count: next.count })
    }
}
