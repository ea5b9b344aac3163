//! Transactions that are not waited for any longer.
//!
//! The client asks the target to let go of an overdue transaction by an abort, which follows the
//! request on its connection. Either the target answers the request as usual. Or the target says
//! that it *holds* the transaction, because the backend still has it: from then on the user need
//! not wait, and the slot is in use until the answer comes.

use dst_wire::{Header, Kind, Op};

use super::{SlotState, Transactions, slot_of};
use crate::Violation;

impl<T> Transactions<T> {
    /// Calls `each` with the ids of the transactions to abort, oldest first: those that began at a
    /// time for which `is_overdue` returns true, were sent, and were not aborted on this
    /// connection. A reset is not aborted, since it has no range that could be held.
    pub fn abort(&mut self, is_overdue: impl Fn(u64) -> bool, mut each: impl FnMut(u64)) {
        let mut next = self.oldest;
        while let Some(slot) = self.slots.get_mut(usize::from(next))
            && is_overdue(slot.begun_us)
        {
            if slot.state == SlotState::Sent && slot.request.op != Op::Reset {
                slot.state = SlotState::Aborting;
                each(slot.id);
            }
            next = slot.newer;
        }
    }

    /// Notes that the target holds a transaction that was aborted. Returns the transaction's user,
    /// who need not wait any longer.
    ///
    /// # Errors
    /// The transaction was not aborted, or was answered.
    pub fn held(&mut self, header: &Header) -> Result<T, Violation> {
        if header.kind != Kind::Held {
            return Err(Violation::Unexpected(header.kind));
        }
        let index = slot_of(header.id);
        let slot = self.slots.get(usize::from(index));
        if !slot.is_some_and(|slot| slot.state == SlotState::Aborting && slot.id == header.id) {
            return Err(Violation::Held(header.id));
        }
        let user = self.take_out(index);
        self.slots[usize::from(index)].state = SlotState::Held;
        Ok(user)
    }

    /// Returns whether the target holds a transaction, whose answer comes on this connection.
    pub fn has_held(&self) -> bool {
        self.slots.iter().any(|slot| slot.state == SlotState::Held)
    }

    /// Frees the slot of a held transaction, whose answer is complete.
    pub fn release(&mut self, slot: u16) {
        let found = &mut self.slots[usize::from(slot)];
        assert!(found.state == SlotState::Held, "slot {slot} is not held");
        found.state = SlotState::Free;
        self.free.push(slot);
    }

    /// Frees the slots of held transactions, because the target has admitted the client again:
    /// nothing is left of what it held on earlier connections.
    pub(super) fn release_all(&mut self) {
        for slot in &mut self.slots {
            if slot.state == SlotState::Held {
                slot.state = SlotState::Free;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Awaited, Request, Unanswered};
    use super::*;
    use dst_wire::{HEADER_LEN, Status};

    const READ: Request = Request { op: Op::Read, start: 5, count: 1, request_len: 0, answer_len: 512 };

    fn frame(kind: Kind, id: u64, data_len: u32) -> Header {
        Header { id, data_len, ..Header::new(kind) }
    }

    /// A slab with two transactions that began at 1 and 2, both sent; returns their ids.
    fn slab() -> (Transactions<char>, [u64; 2]) {
        let mut slab = Transactions::new(2);
        slab.grant(2, None);
        for (user, now) in [('a', 1), ('b', 2)] {
            slab.begin(READ, user, now, None).unwrap();
        }
        slab.sent(2 * HEADER_LEN);
        let id = |slot: usize| slab.slots[slot].id;
        let ids = [id(0), id(1)];
        (slab, ids)
    }

    fn abort(slab: &mut Transactions<char>, until: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        slab.abort(|begun| begun <= until, |id| ids.push(id));
        ids
    }

    #[test]
    fn what_is_overdue_is_aborted_once_and_only_after_it_was_sent() {
        let (mut slab, ids) = slab();
        assert_eq!(abort(&mut slab, 0), []);
        assert_eq!(abort(&mut slab, 1), [ids[0]]);
        assert_eq!(abort(&mut slab, 2), [ids[1]]);
        assert_eq!(abort(&mut slab, 2), []);
        // On another connection what is sent again is aborted again.
        slab.disconnected(Unanswered::MayBeExecuted);
        slab.grant(2, None);
        assert_eq!(abort(&mut slab, 2), [], "it is not sent yet");
        slab.sent(HEADER_LEN + 1);
        assert_eq!(abort(&mut slab, 2), [ids[0]]);
    }

    #[test]
    fn a_transaction_that_is_held_keeps_its_slot_until_its_answer() {
        let (mut slab, [id, other]) = slab();
        assert_eq!(slab.held(&frame(Kind::Held, id, 0)), Err(Violation::Held(id)), "it was not aborted");
        abort(&mut slab, 1);
        assert_eq!(slab.held(&frame(Kind::Held, id, 0)), Ok('a'));
        assert_eq!(slab.held(&frame(Kind::Held, id, 0)), Err(Violation::Held(id)), "twice");
        assert_eq!((slab.outstanding(), slab.oldest_us()), (1, Some(2)), "nobody waits for it");
        assert!(slab.has_held());
        assert!(!slab.has_credit());
        assert!(!slab.any(|_| false) && slab.any(|request| *request == READ));
        let answer = slab.answer(&frame(Kind::Answer, id, 512)).unwrap();
        assert_eq!(
            answer,
            Answer {
                slot: 0,
                status: Status::Success,
                data_len: 512,
                digest: None,
                awaited: Awaited::ByNobody
            }
        );
        slab.release(answer.slot);
        assert!(slab.has_credit() && !slab.has_held());
        assert_eq!(slab.answer(&frame(Kind::Answer, id, 512)), Err(Violation::Answer(id)));
        assert_eq!(slab.answer(&frame(Kind::Answer, other, 512)).unwrap().awaited, Awaited::ByUser);
        slab.finish(1);
        assert!(!slab.any(|_| true));
    }

    #[test]
    fn an_answer_may_cross_the_abort() {
        let (mut slab, [id, _]) = slab();
        abort(&mut slab, 1);
        let answer = slab.answer(&frame(Kind::Answer, id, 512)).unwrap();
        assert_eq!(answer.awaited, Awaited::Overdue);
        assert_eq!(slab.finish(answer.slot), ('a', READ, 1));
        assert_eq!(slab.held(&frame(Kind::Held, id, 0)), Err(Violation::Held(id)));
    }

    #[test]
    fn corrupt_data_of_what_is_aborted_is_sent_again() {
        let (mut slab, [id, _]) = slab();
        abort(&mut slab, 1);
        slab.repeat(0, None).unwrap();
        assert_eq!(abort(&mut slab, 1), []);
        slab.sent(HEADER_LEN);
        assert_eq!(abort(&mut slab, 1), [id]);
    }

    #[test]
    fn a_welcome_frees_what_was_held() {
        let (mut slab, [id, _]) = slab();
        abort(&mut slab, 1);
        slab.held(&frame(Kind::Held, id, 0)).unwrap();
        slab.disconnected(Unanswered::MayBeExecuted);
        assert!(slab.grant(2, None));
        assert!(slab.has_credit() && slab.outgoing().count() == 1);
        // Its slot may be one of those that are granted no more.
        let (mut slab, [_, id]) = self::slab();
        slab.finish(0);
        abort(&mut slab, 2);
        slab.held(&frame(Kind::Held, id, 0)).unwrap();
        slab.disconnected(Unanswered::MayBeExecuted);
        assert!(slab.grant(1, None));
    }
}
