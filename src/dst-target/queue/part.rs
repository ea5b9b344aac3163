//! Operations that go to the backend in parts; the size of parts is decided in
//! [`dst_session::parts`].
//!
//! The backend has one part of a request at a time, and the request is in the backend all the while.
//! When its connection is over, the next part is not begun: the request was not executed then, and
//! the client sends it again.

use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::parts::{InParts, PartSize};
use dst_session::transactions::Request;
use dst_wire::{Op, Status};

use super::{Ended, Queue, is_over};
use crate::completion::Io;
use crate::pools::Pools;
use crate::submission::Submission;

impl Queue {
    fn part_size(&mut self, op: Op) -> &mut PartSize {
        if op == Op::Unmap { &mut self.unmaps } else { &mut self.zeroes }
    }

    /// Returns the range of the first part of a request, which is begun now.
    pub(super) fn begin_parts(&mut self, slot: u16, request: &Request, now_us: u64) -> (u64, u64) {
        let Request { op, start, count, .. } = *request;
        let part = InParts::new(self.part_size(op), start, count, now_us);
        self.work[usize::from(slot)].part = Some(part);
        (part.start, part.count)
    }

    /// Returns whether what the backend has finished was a part of a request.
    #[inline]
    pub fn is_part(&self, io: &Io) -> bool {
        self.work[usize::from(io.ctx.slot)].part.is_some()
    }

    /// The backend has finished a part. Returns the next one, if there is one to be done. `lease` is
    /// that of a connection that is open: without one, nothing more is begun. `clock` is read right
    /// before the next part would go to the backend.
    pub fn part_completed(
        &mut self,
        io: Io,
        status: Status,
        pools: &Pools,
        lease: Option<&Granted>,
        clock: impl FnOnce() -> u64,
    ) -> Ended {
        let (slot, now_us) = (io.ctx.slot, clock());
        let work = &mut self.work[usize::from(slot)];
        let (part, op) = (work.part.take().expect("the caller has asked"), work.op);
        let next = part.next(self.part_size(op), now_us).filter(|_| !is_on(Mutation::FirstPartOnly));
        let Some(next) = next.filter(|_| status == Status::Success) else {
            self.completed(io, status, now_us, pools);
            return Ended::Answered;
        };
        let goes_on = lease.is_some_and(|lease| !is_over(lease, now_us));
        if !goes_on {
            self.in_backend -= 1;
            self.setup.slots.withdraw(slot);
            pools.put(io, &mut self.share);
            self.stats.dropped += 1;
            return if lease.is_some() { Ended::LeaseOver(now_us) } else { Ended::Answered };
        }
        self.work[usize::from(slot)].part = Some(next);
        Ended::Submit(Submission { io, op, start: next.start, count: next.count })
    }
}
