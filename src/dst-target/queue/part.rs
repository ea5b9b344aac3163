//! Operations that go to the backend in parts; the size of parts is decided in
//! [`dst_session::parts`].
//!
//! The backend has one part of a request at a time, and the request is in the backend all the while.
//! When its connection is over, the next part is not begun: the request was not executed then, and
//! the client sends it again.

use dst_session::lease::Granted;
use dst_session::mutation::{Mutation, is_on};
use dst_session::parts::PartSize;
use dst_session::transactions::Request;
use dst_wire::{Op, Status};

use super::{Ended, Queue, is_over};
use crate::completion::Io;
use crate::pools::Pools;
use crate::submission::Submission;

/// The part of a request that the backend has, and the range that is still to come.
pub(super) struct Part {
    blocks: u64,
    begun_us: u64,
    /// The first block behind the part.
    next: u64,
    /// Blocks from there on.
    rest: u64,
}

impl Queue {
    fn part_size(&mut self, op: Op) -> &mut PartSize {
        if op == Op::Unmap { &mut self.unmaps } else { &mut self.zeroes }
    }

    /// Returns the range of the first part of a request, which is begun now.
    pub(super) fn begin_parts(&mut self, slot: u16, request: &Request, now_us: u64) -> (u64, u64) {
        let Request { op, start, count, .. } = *request;
        let blocks = self.part_size(op).first_of(start, count);
        let part = Part { blocks, begun_us: now_us, next: start + blocks, rest: count - blocks };
        self.work[usize::from(slot)].part = Some(part);
        (start, blocks)
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
        let Part { blocks, begun_us, next, rest } = work.part.take().expect("the caller has asked");
        let op = work.op;
        self.part_size(op).took(blocks, now_us.saturating_sub(begun_us));
        if rest == 0 || status != Status::Success || is_on(Mutation::FirstPartOnly) {
            self.completed(io, status, now_us, pools);
            return Ended::Answered;
        }
        let goes_on = lease.is_some_and(|lease| !is_over(lease, now_us));
        if !goes_on {
            self.in_backend -= 1;
            self.setup.slots.withdraw(slot);
            pools.put(io, &mut self.share);
            self.stats.dropped += 1;
            return if lease.is_some() { Ended::LeaseOver(now_us) } else { Ended::Answered };
        }
        let blocks = self.part_size(op).first_of(next, rest);
        let part = Part { blocks, begun_us: now_us, next: next + blocks, rest: rest - blocks };
        self.work[usize::from(slot)].part = Some(part);
        Ended::Submit(Submission { io, op, start: next, count: blocks })
    }
}
