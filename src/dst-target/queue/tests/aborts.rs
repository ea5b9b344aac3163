//! Aborted requests, and those that wait because of what is held.

use super::*;
use crate::holds::{HeldRequest, HoldNotice};
use crate::queue::abort::{Abort, Unparked};
use dst_session::holds::HoldId;

/// A hold of another connection.
const OTHER: HoldId = HoldId { connection: 1, request: 1 };

fn hold_of(id: u64, start: u64, count: u64) -> HeldRequest {
    HeldRequest { client: host(), id: HoldId { connection: 7, request: id }, start, count }
}

impl Rig {
    fn abort(&mut self, id: u64) -> Result<Abort, Violation> {
        self.queue.abort(id, &self.pools)
    }

    /// The backend finishes an aborted request. Returns what is not held any longer.
    fn aborted_ends(&mut self, submission: Submission, status: Status) -> Option<HoldNotice> {
        assert!(self.queue.is_special(&submission.io));
        let lease = Some(&self.lease);
        let (ended, released) = self.queue.special_completed(submission.io, status, &self.pools, lease, || 0);
        assert!(matches!(ended, Dispatch::Nothing));
        released
    }

    /// Something of the same client is held, of another connection.
    fn hold(&self, start: u64, count: u64) {
        self.group.hold(&HeldRequest { client: host(), id: OTHER, start, count });
    }

    fn unpark(&mut self) -> Option<Submission> {
        match self.queue.unpark(&self.lease, || 0) {
            Unparked::Submit(submission) => Some(submission),
            Unparked::Nothing => None,
            Unparked::LeaseOver(now_us) => panic!("the lease was over at {now_us}"),
        }
    }
}

#[test]
fn a_write_that_the_backend_has_is_held_until_it_is_answered() {
    let mut rig = Rig::plain();
    let write = rig.comes(&Rig::request(Op::Write, id(1, 0), 5, 2), &[1; 1024]).unwrap();
    assert!(!rig.queue.is_aborted(id(1, 0)));
    let hold = Abort::Hold(HoldNotice::Hold(hold_of(id(1, 0), 5, 2)));
    assert_eq!(rig.abort(id(1, 0)), Ok(hold));
    assert_eq!(rig.abort(id(1, 0)), Ok(Abort::Answered), "once is enough");
    assert!(rig.queue.is_aborted(id(1, 0)) && !rig.queue.is_aborted(id(2, 0)));
    let next = Rig::request(Op::Read, id(2, 0), 0, 1);
    assert!(matches!(rig.header(&next), Err(Violation::SlotBusy { .. })));
    let released = rig.aborted_ends(write, Status::Success);
    let key = hold_of(id(1, 0), 0, 0).id;
    assert_eq!(released, Some(HoldNotice::Release { client: host(), id: key }));
    assert!(!rig.queue.is_aborted(id(1, 0)), "the answer tells the client");
    assert_eq!(rig.answers(), [(id(1, 0), Status::Success, vec![])]);
    let read = rig.comes(&next, &[]).unwrap();
    assert!(!rig.queue.is_special(&read.io), "the slot is still that of the request before");
}

#[test]
fn what_changes_nothing_need_not_be_held() {
    let mut rig = Rig::plain();
    for (slot, op) in [(0, Op::Read), (1, Op::Flush)] {
        let submission = rig.comes(&Rig::request(op, id(1, slot), 0, 1), &[]).unwrap();
        assert_eq!(rig.abort(id(1, slot)), Ok(Abort::Held), "{op:?}");
        assert_eq!(rig.abort(id(1, slot)), Ok(Abort::Answered), "{op:?}");
        assert_eq!(rig.aborted_ends(submission, Status::Failed), None);
        assert_eq!(rig.answers(), [(id(1, slot), Status::Failed, vec![])]);
    }
    assert!(rig.comes(&Rig::request(Op::Reset, id(1, 2), 0, 0), &[]).is_none());
    assert_eq!(rig.abort(id(1, 2)), Ok(Abort::Answered), "the control thread answers a reset");
    assert!(rig.answers().is_empty());
}

#[test]
fn an_abort_of_what_is_answered_or_never_came_does_nothing() {
    let mut rig = Rig::plain();
    let read = rig.comes(&Rig::request(Op::Read, id(3, 0), 0, 1), &[]).unwrap();
    for other in [id(2, 0), id(4, 0), id(3, 1), 0] {
        assert_eq!(rig.abort(other), Ok(Abort::Answered), "{other:#x}");
    }
    rig.complete(read, Status::Failed);
    assert_eq!(rig.abort(id(3, 0)), Ok(Abort::Answered));
    assert_eq!(rig.answers().len(), 1);
    let none = Violation::Slot { id: id(1, CREDITS), slot: CREDITS, credits: CREDITS };
    assert_eq!(rig.abort(id(1, CREDITS)), Err(none));
}

#[test]
fn what_overlaps_a_hold_waits_and_the_rest_goes_on() {
    let mut rig = Rig::plain();
    rig.hold(10, 10);
    assert!(rig.comes(&Rig::request(Op::Write, id(1, 0), 19, 1), &[1; 512]).is_none());
    assert!(rig.comes(&Rig::request(Op::Read, id(1, 1), 0, 11), &[]).is_none());
    assert!(rig.comes(&Rig::request(Op::Flush, id(1, 2), 0, 0), &[]).is_none());
    assert!(rig.comes(&Rig::request(Op::Write, id(1, 3), 20, 1), &[1; 512]).is_some());
    assert!(rig.unpark().is_none() && rig.answers().is_empty());
    assert_eq!((rig.queue.in_backend(), rig.queue.stats.writes), (1, 1));
    assert!(matches!(rig.header(&Rig::request(Op::Read, id(2, 0), 0, 1)), Err(Violation::SlotBusy { .. })));
    rig.group.release(&host(), OTHER);
    let order = [rig.unpark(), rig.unpark(), rig.unpark()].map(|submission| submission.unwrap());
    assert_eq!(order.each_ref().map(|s| s.op), [Op::Write, Op::Read, Op::Flush]);
    assert_eq!(order[0].io.data.slice(0), [1; 512]);
    assert!(rig.unpark().is_none());
    for submission in order {
        rig.complete(submission, Status::Success);
    }
    assert_eq!(rig.answers().len(), 3);
}

#[test]
fn what_waits_and_is_aborted_is_answered_and_never_executed() {
    let mut rig = Rig::plain();
    rig.hold(0, 1);
    let write = Rig::request(Op::Write, id(1, 0), 0, 1);
    assert!(rig.comes(&write, &[1; 512]).is_none());
    assert_eq!(rig.abort(id(1, 0)), Ok(Abort::Answered));
    assert_eq!(rig.answers(), [(id(1, 0), Status::Aborted, vec![])]);
    rig.group.release(&host(), OTHER);
    assert!(rig.unpark().is_none() && rig.holds_nothing());
    // Nor if it comes again, as its client may not have the answer.
    assert!(rig.comes(&write, &[1; 512]).is_none());
    assert_eq!(rig.answers(), [(id(1, 0), Status::Aborted, vec![])]);
}

#[test]
fn what_waits_goes_with_its_connection_or_its_lease() {
    let mut rig = Rig::plain();
    rig.hold(0, 1);
    assert!(rig.comes(&Rig::request(Op::Write, id(1, 0), 0, 1), &[1; 512]).is_none());
    rig.group.release(&host(), OTHER);
    assert!(matches!(rig.queue.unpark(&rig.lease, || LEASE_US), Unparked::LeaseOver(LEASE_US)));
    rig.queue.disconnected(&rig.pools);
    assert!(rig.holds_nothing() && rig.answers().is_empty());
    assert_eq!((rig.queue.stats.dropped, rig.queue.stats.writes), (1, 0));
    assert_eq!(rig.queue.into_slots().arrive(id(1, 0), Op::Write), Ok(Arrival::Execute));
}

#[test]
fn an_operation_in_parts_ends_with_the_part_that_the_backend_has() {
    let mut rig = Rig::plain();
    rig.lease = Granted::new(100, 0);
    for (slot, status, answered) in
        [(0, Status::Success, Status::Aborted), (1, Status::Failed, Status::Failed)]
    {
        let request = Rig::request(Op::WriteZeroes, id(1, slot), 0, 3 * PART);
        let part = rig.comes(&request, &[]).unwrap();
        let Dispatch::Submit(part) = rig.part_ends(part, Status::Success, 7000) else { panic!("more") };
        let hold = Abort::Hold(HoldNotice::Hold(hold_of(id(1, slot), PART, PART)));
        assert_eq!(rig.abort(id(1, slot)), Ok(hold), "what was done is not held");
        assert!(rig.aborted_ends(part, status).is_some());
        assert_eq!(rig.answers(), [(id(1, slot), answered, vec![])]);
    }
    // The last part is all that is left.
    let part = rig.comes(&Rig::request(Op::Unmap, id(1, 2), 0, PART), &[]).unwrap();
    rig.abort(id(1, 2)).unwrap();
    rig.aborted_ends(part, Status::Success);
    assert_eq!(rig.answers(), [(id(1, 2), Status::Success, vec![])]);
}

#[test]
fn what_another_sessions_reset_has_ended_is_not_executed_again_once_it_is_aborted() {
    let mut rig = Rig::plain();
    let write = |slot| Rig::request(Op::Write, id(1, slot), u64::from(slot), 1);
    let ended = rig.comes(&write(0), &[1; 512]).unwrap().io;
    let aborted = rig.comes(&write(1), &[1; 512]).unwrap();
    rig.abort(id(1, 1)).unwrap();
    rig.backend_resets.begin();
    assert!(!rig.queue.is_executed_again(&aborted.io, Status::Aborted), "nobody waits for it");
    assert!(rig.queue.is_executed_again(&ended, Status::Aborted));
    rig.queue.keep_ended(ended, 0);
    assert!(rig.aborted_ends(aborted, Status::Aborted).is_some());
    assert_eq!(rig.abort(id(1, 0)), Ok(Abort::Answered));
    rig.backend_resets.end(0);
    assert!(rig.queue.next_ended(u64::MAX).is_none());
    let aborted = |slot| (id(1, slot), Status::Aborted, vec![]);
    assert_eq!(rig.answers(), [aborted(1), aborted(0)]);
    assert!(rig.holds_nothing() && rig.queue.in_backend() == 0);
}

#[test]
fn a_round_of_resets_waits_for_what_is_held_and_what_waits_for_that() {
    let mut rig = Rig::plain();
    let write = rig.comes(&Rig::request(Op::Write, id(1, 0), 0, 1), &[1; 512]).unwrap();
    rig.abort(id(1, 0)).unwrap();
    rig.queue.quiesce(7);
    assert_eq!(rig.queue.quiesced(), None, "the backend has the write");
    rig.aborted_ends(write, Status::Success);
    assert_eq!(rig.queue.quiesced(), Some(7));
    rig.hold(0, 1);
    assert!(rig.comes(&Rig::request(Op::Read, id(1, 1), 0, 1), &[]).is_none());
    rig.queue.quiesce(8);
    assert_eq!(rig.queue.quiesced(), None, "the read waits");
    rig.group.release(&host(), OTHER);
    let read = rig.unpark().unwrap();
    assert_eq!(rig.queue.quiesced(), None, "the backend has the read");
    rig.complete(read, Status::Failed);
    assert_eq!(rig.queue.quiesced(), Some(8));
}

#[test]
fn what_another_sessions_reset_has_ended_waits_for_what_is_held() {
    let mut rig = Rig::plain();
    let [inside, outside] = [5, 6].map(|start| Rig::request(Op::Write, id(1, start as u16 - 5), start, 1));
    let inside = rig.comes(&inside, &[1; 512]).unwrap().io;
    let outside = rig.comes(&outside, &[1; 512]).unwrap().io;
    let flush = rig.comes(&Rig::request(Op::Flush, id(1, 2), 0, 0), &[]).unwrap().io;
    rig.backend_resets.begin();
    for io in [inside, flush, outside] {
        rig.queue.keep_ended(io, 0);
    }
    rig.hold(4, 2);
    rig.backend_resets.end(1);
    let free = rig.queue.next_ended(2).expect("it overlaps nothing that is held");
    assert_eq!(free.ctx.slot, 1);
    assert!(rig.queue.next_ended(u64::MAX).is_none() && rig.queue.is_attended());
    rig.group.release(&host(), OTHER);
    let rest = [(); 2].map(|()| rig.queue.next_ended(3).expect("nothing is held any more"));
    assert!(!rig.queue.is_attended());
    for io in [free].into_iter().chain(rest) {
        rig.queue.completed(io, Status::Failed, 4, &rig.pools);
    }
    assert_eq!(rig.answers().len(), 3);
    assert!(rig.holds_nothing() && rig.queue.in_backend() == 0);
}

#[test]
fn a_part_that_another_sessions_reset_has_ended_is_executed_again_and_the_next_ones_follow() {
    let mut rig = Rig::plain();
    rig.lease = Granted::new(100, 0);
    let part = rig.comes(&Rig::request(Op::Unmap, id(1, 0), 0, 3 * PART), &[]).unwrap();
    rig.backend_resets.begin();
    assert!(rig.queue.is_executed_again(&part.io, Status::Aborted));
    rig.queue.keep_ended(part.io, 10);
    rig.backend_resets.end(20);
    let io = rig.queue.next_ended(30).unwrap();
    assert!(!rig.queue.is_executed_again(&io, Status::Failed), "the reset was over when it began");
    // The next part begins after the reset, of which it knows nothing.
    let again = Submission { io, op: Op::Unmap, start: 0, count: PART };
    let Dispatch::Submit(part) = rig.part_ends(again, Status::Success, 7000) else { panic!("more") };
    assert_eq!((part.start, part.count), (PART, PART));
    assert!(!rig.queue.is_executed_again(&part.io, Status::Failed));
    // One that is ended by a reset and aborted then is all that is left of the operation.
    rig.backend_resets.begin();
    assert!(rig.queue.is_executed_again(&part.io, Status::Aborted));
    rig.queue.keep_ended(part.io, 7010);
    assert_eq!(rig.abort(id(1, 0)), Ok(Abort::Answered));
    rig.backend_resets.end(7020);
    assert!(rig.queue.next_ended(7030).is_none());
    assert_eq!(rig.answers(), [(id(1, 0), Status::Aborted, vec![])]);
    assert!(rig.holds_nothing() && rig.queue.in_backend() == 0);
}

#[test]
fn a_hold_ends_however_the_request_does() {
    let mut rig = Rig::plain();
    let write = rig.comes(&Rig::request(Op::Write, id(1, 0), 0, 1), &[1; 512]).unwrap();
    let other = rig.comes(&Rig::request(Op::Write, id(1, 1), 1, 1), &[1; 512]).unwrap();
    rig.abort(id(1, 0)).unwrap();
    rig.abort(id(1, 1)).unwrap();
    assert!(rig.queue.withdraw(write.io, 9, &rig.pools).is_some());
    rig.queue.disconnected(&rig.pools);
    let (_, released) = rig.queue.special_completed(other.io, Status::Success, &rig.pools, None, || 0);
    assert!(released.is_some());
    rig.queue.drop_answers(&rig.pools);
    assert!(rig.holds_nothing());
}
