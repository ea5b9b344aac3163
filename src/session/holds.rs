//! What a target holds: requests that their client has given up while the backend still has them.
//!
//! The client has told its user that such a request failed. So nothing that the user does afterwards
//! may be overtaken by it: until the backend is done, whatever overlaps it waits. A target tells the
//! client only when all its threads know.

use dst_wire::Op;

use crate::mutation::{self, Mutation};

/// The most requests that a target holds for one host at one export: as many as a connection may
/// have outstanding by default. Each costs every request a comparison meanwhile.
pub const HOLDS_MAX: usize = 256;

/// Names a request that is held: its connection, and its id there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId {
    /// The connection's number in its target.
    pub connection: u64,
    /// The request's id.
    pub request: u64,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    id: HoldId,
    start: u64,
    count: u64,
}

/// The requests of one host at one export that are held, as one thread knows them.
#[derive(Debug, Default)]
pub struct Holds(Vec<Hold>);

impl Holds {
    /// Returns whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Holds a request of this range, in blocks.
    pub fn add(&mut self, id: HoldId, start: u64, count: u64) {
        self.0.push(Hold { id, start, count });
    }

    /// The backend is done with a request.
    pub fn remove(&mut self, id: HoldId) {
        self.0.retain(|hold| hold.id != id);
    }

    /// Returns whether a request has to wait: one that overlaps what is held, or has no range.
    pub fn stop(&self, op: Op, start: u64, count: u64) -> bool {
        if mutation::is_on(Mutation::NoHolding) {
            return false;
        }
        let overlaps = |hold: &Hold| start < hold.start + hold.count && hold.start < start + count;
        self.0.iter().any(|hold| !op.has_range() || overlaps(hold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(request: u64) -> HoldId {
        HoldId { connection: 1, request }
    }

    #[test]
    fn what_overlaps_waits_until_the_last_hold_is_over() {
        let mut holds = Holds::default();
        assert!(holds.is_empty() && !holds.stop(Op::Flush, 0, 0));
        holds.add(id(1), 10, 5);
        holds.add(id(2), 14, 1);
        for (start, count, waits) in
            [(9, 1, false), (9, 2, true), (14, 1, true), (15, 9, false), (0, 99, true)]
        {
            assert_eq!(holds.stop(Op::Write, start, count), waits, "{start}+{count}");
            assert_eq!(holds.stop(Op::Read, start, count), waits, "{start}+{count}");
        }
        assert!(holds.stop(Op::Flush, 0, 0) && holds.stop(Op::Reset, 0, 0));
        holds.remove(id(1));
        assert!(holds.stop(Op::Write, 14, 1) && !holds.stop(Op::Write, 13, 1));
        holds.remove(HoldId { connection: 2, request: 2 });
        assert!(holds.stop(Op::Flush, 0, 0), "another connection's");
        holds.remove(id(2));
        assert!(holds.is_empty() && !holds.stop(Op::Flush, 0, 0));
    }

    proptest! {
        /// As if each block were looked at.
        #[test]
        fn a_request_waits_if_it_has_a_block_that_is_held(
            held in proptest::collection::vec((0u64..64, 1u64..16), 0..6), start in 0u64..64, count in 1u64..16,
        ) {
            let mut holds = Holds::default();
            for (request, &(start, count)) in held.iter().enumerate() {
                holds.add(id(request as u64), start, count);
            }
            let is_held = |block| held.iter().any(|&(start, count)| (start..start + count).contains(&block));
            prop_assert_eq!(holds.stop(Op::Write, start, count), (start..start + count).any(is_held));
        }
    }
}
