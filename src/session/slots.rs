//! The target's record of a queue's transactions, one slot each, as in an NFSv4.1 session (RFC
//! 8881, section 2.10.6). A client reuses a slot only after it has received the answer. So the last
//! answer of each slot is every answer that a client may still need.

use dst_wire::{Op, Status};

use crate::Violation;
use crate::mutation::{Mutation, is_on};
use crate::transactions::slot_of;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Slot {
    /// The unanswered transaction in the slot; 0: none.
    busy: u64,
    /// The transaction that was answered last, and its status.
    answered: Option<(u64, Status)>,
}

/// The target's decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Execute the request.
    Execute,
    /// The request was executed before: repeat this answer.
    Repeat(Status),
}

/// The slots of one queue of a session. They outlive its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slots {
    slots: Box<[Slot]>,
}

impl Slots {
    /// Creates `credits` unused slots.
    pub fn new(credits: u16) -> Slots {
        Slots { slots: vec![Slot::default(); credits.into()].into() }
    }

    /// Returns the number of slots.
    pub fn credits(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Decides about a request that arrived. Its slot is busy until [`Slots::answered`] or
    /// [`Slots::withdraw`].
    ///
    /// A read is executed each time it arrives: its answer needs the data, and executing it twice
    /// changes nothing.
    ///
    /// # Errors
    /// The slot was not granted, is busy, or has seen a newer transaction.
    pub fn arrive(&mut self, id: u64, op: Op) -> Result<Arrival, Violation> {
        let (slot, credits) = (slot_of(id), self.credits());
        let entry = self.slots.get_mut(usize::from(slot)).ok_or(Violation::Slot { id, slot, credits })?;
        if entry.busy != 0 {
            return Err(Violation::SlotBusy { id, other: entry.busy });
        }
        let arrival = match entry.answered {
            Some((last, _)) if id < last => return Err(Violation::Old { id, last }),
            Some((last, status))
                if id == last && op.describe().answer_copies == 0 && !is_on(Mutation::NoRecord) =>
            {
                Arrival::Repeat(status)
            }
            _ => Arrival::Execute,
        };
        if id >> 16 == 0 {
            return Err(Violation::Old { id, last: 0 });
        }
        entry.busy = id;
        Ok(arrival)
    }

    /// Returns whether a transaction has arrived and is not answered.
    pub fn is_busy(&self, id: u64) -> bool {
        self.slots.get(usize::from(slot_of(id))).is_some_and(|entry| entry.busy == id && id != 0)
    }

    /// Returns the unanswered transaction in this slot; 0: none.
    pub fn busy(&self, slot: u16) -> u64 {
        self.slots[usize::from(slot)].busy
    }

    /// Returns the unanswered transactions.
    pub fn all_busy(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|entry| entry.busy).filter(|&id| id != 0)
    }

    /// Records the status of the transaction in this slot, and returns its id.
    pub fn answered(&mut self, slot: u16, status: Status) -> u64 {
        let entry = &mut self.slots[usize::from(slot)];
        assert!(entry.busy != 0, "slot {slot} is not busy");
        let id = std::mem::take(&mut entry.busy);
        entry.answered = Some((id, status));
        id
    }

    /// Forgets the transaction in this slot, which was not executed, and returns its id.
    pub fn withdraw(&mut self, slot: u16) -> u64 {
        std::mem::take(&mut self.slots[usize::from(slot)].busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64, slot: u16) -> u64 {
        sequence << 16 | u64::from(slot)
    }

    #[test]
    fn each_transaction_is_executed_once_and_answered_as_often_as_asked() {
        let mut slots = Slots::new(2);
        assert_eq!(slots.arrive(id(1, 0), Op::Write), Ok(Arrival::Execute));
        assert!(matches!(slots.arrive(id(1, 0), Op::Write), Err(Violation::SlotBusy { .. })));
        assert!(matches!(slots.arrive(id(2, 0), Op::Write), Err(Violation::SlotBusy { .. })));
        slots.answered(0, Status::Miscompare);
        for _ in 0..2 {
            assert_eq!(slots.arrive(id(1, 0), Op::Write), Ok(Arrival::Repeat(Status::Miscompare)));
            slots.answered(0, Status::Miscompare);
        }
        assert_eq!(slots.arrive(id(5, 0), Op::Read), Ok(Arrival::Execute));
        slots.answered(0, Status::Success);
        assert_eq!(slots.arrive(id(5, 0), Op::Read), Ok(Arrival::Execute), "a read's answer needs data");
        slots.answered(0, Status::Success);
        assert!(matches!(slots.arrive(id(4, 0), Op::Write), Err(Violation::Old { .. })));
    }

    #[test]
    fn what_was_not_executed_is_executed_when_it_comes_again() {
        let mut slots = Slots::new(1);
        assert_eq!(slots.arrive(id(1, 0), Op::Write), Ok(Arrival::Execute));
        slots.withdraw(0);
        assert_eq!(slots.arrive(id(1, 0), Op::Write), Ok(Arrival::Execute));
    }

    #[test]
    fn slots_that_were_not_granted_are_refused() {
        let mut slots = Slots::new(2);
        assert!(matches!(slots.arrive(id(1, 2), Op::Read), Err(Violation::Slot { slot: 2, credits: 2, .. })));
        assert!(
            matches!(slots.arrive(id(0, 1), Op::Read), Err(Violation::Old { .. })),
            "sequences begin at 1"
        );
    }
}
