//! How a trace names a transaction: the same on both sides, so that two traces can be put together.

use dst_wire::{Op, SessionRef};

/// The bits of an object that come from the transaction's id. The other 24 tell queues apart.
const ID_BITS: u32 = 40;

/// Names the transactions of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceIds(u64);

impl TraceIds {
    /// Returns the names of the transactions of this session's queue, over all of its connections.
    pub fn of(session: &SessionRef) -> TraceIds {
        let [a, b, c, ..] = session.id;
        // Odd, so that all queues of a session differ: 2^24 divided by the golden ratio.
        let queue = u64::from(session.queue).wrapping_mul(0x9e_3779);
        TraceIds((u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c]) ^ queue) << ID_BITS)
    }

    /// Returns the name of a transaction. It is the same for two of a queue of which the later one
    /// began 2^24 transactions after the other, and once in 2^24 pairs of queues for those of two
    /// queues.
    #[inline]
    pub fn object(self, id: u64) -> u64 {
        self.0 | id & ((1 << ID_BITS) - 1)
    }
}

/// Returns the operation and the first block of a request as one number, of which the highest 8 bits
/// are the operation's wire code.
pub fn op_and_block(op: Op, start: u64) -> u64 {
    u64::from(op as u8) << 56 | start & ((1 << 56) - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_tell_the_transactions_of_all_queues_apart() {
        let mut names = BTreeSet::new();
        for queue in 0..1000 {
            let session = SessionRef { id: [0xfe; 16], queue, epoch: 1 };
            let ids = TraceIds::of(&session);
            assert_eq!(ids, TraceIds::of(&SessionRef { epoch: 2, ..session }), "another connection");
            for sequence in [1_u64, 2, 0xff_ffff] {
                for slot in [0, 1, 0xffff] {
                    assert!(names.insert(ids.object(sequence << 16 | slot)));
                }
            }
        }
        let other = TraceIds::of(&SessionRef { id: [0xfd; 16], queue: 0, epoch: 1 });
        assert!(names.insert(other.object(1 << 16)));
    }

    #[test]
    fn an_operation_is_beside_its_block() {
        assert_eq!(op_and_block(Op::Write, 0x1234), u64::from(Op::Write as u8) << 56 | 0x1234);
        assert_eq!(op_and_block(Op::Read, u64::MAX) >> 56, u64::from(Op::Read as u8));
    }
}
