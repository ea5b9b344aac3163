//! The operations of a block device.

use crate::WireError;
use crate::codes::codes;

codes! {
    /// The operation of a request. The number is its code on the wire.
    Op: u8 {
        /// Blocks travel with the answer.
        Read = 1 "Read",
        /// Blocks travel with the request.
        Write = 2 "Write",
        /// All writes completed before the flush, on every connection, become durable.
        Flush = 3 "Flush",
        /// The blocks' content is no longer needed.
        Unmap = 4 "Unmap",
        /// The blocks become zeroes.
        WriteZeroes = 5 "WriteZeroes",
        /// The request carries the expected blocks, then the new ones. The new blocks are written
        /// if the device has the expected ones, as one atomic step.
        CompareAndWrite = 6 "CompareAndWrite",
        /// The requests of the client's session end, or, if the export says so, all that the bdev has
        /// outstanding: see "What a reset reaches" in docs/failures.md.
        Reset = 7 "Reset",
    }
}

/// The properties of an operation that hold wherever it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// Whether the operation can change what a later read returns. A read-only connection may not
    /// request such operations.
    pub modifies: bool,
    /// Whether the operation names a range of blocks.
    pub has_range: bool,
    /// How many times the request carries the blocks of the range.
    pub request_copies: u8,
    /// How many times a successful answer carries the blocks of the range.
    pub answer_copies: u8,
    /// Whether a request without an answer may be sent again in a new session, whose target does
    /// not know whether the operation was executed.
    pub in_new_session: InNewSession,
    /// The class of counters and histograms to which the operation belongs.
    pub class: Class,
}

/// The fate of an unanswered request when its client has to open a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InNewSession {
    /// The request is sent again: executing the operation twice has the same effect as once.
    SentAgain,
    /// The request is sent again unless the target may have lost completed writes.
    SentAgainUnlessWritesWereLost,
    /// The request fails: the operation must not be executed twice.
    Fails,
}

/// A class of operations that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The client receives blocks.
    Read,
    /// The client sends blocks.
    Write,
    /// Neither end sends blocks.
    Other,
}

impl Op {
    /// Returns the properties of the operation. A new operation is described here.
    #[inline]
    pub const fn describe(self) -> Description {
        use InNewSession::{Fails, SentAgain, SentAgainUnlessWritesWereLost};
        match self {
            Op::Read => Description {
                modifies: false,
                has_range: true,
                request_copies: 0,
                answer_copies: 1,
                in_new_session: SentAgain,
                class: Class::Read,
            },
            Op::Write => Description {
                modifies: true,
                has_range: true,
                request_copies: 1,
                answer_copies: 0,
                in_new_session: SentAgain,
                class: Class::Write,
            },
            Op::Flush => Description {
                modifies: false,
                has_range: false,
                request_copies: 0,
                answer_copies: 0,
                in_new_session: SentAgainUnlessWritesWereLost,
                class: Class::Other,
            },
            Op::Unmap => Description {
                modifies: true,
                has_range: true,
                request_copies: 0,
                answer_copies: 0,
                in_new_session: SentAgain,
                class: Class::Other,
            },
            Op::WriteZeroes => Description {
                modifies: true,
                has_range: true,
                request_copies: 0,
                answer_copies: 0,
                in_new_session: SentAgain,
                class: Class::Other,
            },
            Op::CompareAndWrite => Description {
                modifies: true,
                has_range: true,
                request_copies: 2,
                answer_copies: 0,
                in_new_session: Fails,
                class: Class::Write,
            },
            Op::Reset => Description {
                modifies: false,
                has_range: false,
                request_copies: 0,
                answer_copies: 0,
                in_new_session: SentAgain,
                class: Class::Other,
            },
        }
    }

    /// Returns the operation of a request's code.
    ///
    /// # Errors
    /// The code is unknown to this version.
    #[inline]
    pub fn from_code(code: u8) -> Result<Op, WireError> {
        Op::try_from_code(code).ok_or(WireError::Op(code))
    }

    /// Returns [`Description::modifies`].
    #[inline]
    pub const fn modifies(self) -> bool {
        self.describe().modifies
    }

    /// Returns [`Description::has_range`].
    #[inline]
    pub const fn has_range(self) -> bool {
        self.describe().has_range
    }

    /// Returns whether the request or its answer carries blocks.
    #[inline]
    pub const fn carries_data(self) -> bool {
        let Description { request_copies, answer_copies, .. } = self.describe();
        request_copies > 0 || answer_copies > 0
    }

    /// Returns the size of the data of a request for `bytes` bytes of blocks, in bytes.
    #[inline]
    pub const fn request_data(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.describe().request_copies as u64)
    }

    /// Returns the size of the data of a successful answer to a request for `bytes` bytes of
    /// blocks, in bytes.
    #[inline]
    pub const fn answer_data(self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.describe().answer_copies as u64)
    }
}

/// A set of operations, with bit `1 << code` for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OpSet(u32);

impl OpSet {
    /// No operation.
    pub const NONE: OpSet = OpSet(0);

    /// Creates the set with these bits. Bits of unknown operations are kept and ignored.
    pub const fn from_bits(bits: u32) -> OpSet {
        OpSet(bits)
    }

    /// Returns the bits as sent on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the set with `op` added.
    #[must_use]
    pub const fn with(self, op: Op) -> OpSet {
        OpSet(self.0 | 1 << op as u8)
    }

    /// Returns the set with `op` removed.
    #[must_use]
    pub const fn without(self, op: Op) -> OpSet {
        OpSet(self.0 & !(1 << op as u8))
    }

    /// Returns whether `op` is in the set.
    pub const fn contains(self, op: Op) -> bool {
        self.0 & 1 << op as u8 != 0
    }

    /// Returns the known operations of the set.
    pub fn iter(self) -> impl Iterator<Item = Op> {
        Op::ALL.into_iter().filter(move |&op| self.contains(op))
    }
}

impl FromIterator<Op> for OpSet {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> OpSet {
        ops.into_iter().fold(OpSet::NONE, OpSet::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_errors() {
        assert_eq!(Op::from_code(7), Ok(Op::Reset));
        assert_eq!(Op::from_code(0), Err(WireError::Op(0)));
        assert_eq!(Op::from_code(8), Err(WireError::Op(8)));
    }

    #[test]
    fn descriptions_do_not_contradict_themselves() {
        for op in Op::ALL {
            let Description { modifies, has_range, request_copies, answer_copies, class, .. } = op.describe();
            assert!(has_range || !op.carries_data(), "{op}: blocks of no range");
            assert!(modifies || request_copies == 0, "{op}: blocks for the target that change nothing");
            assert_eq!(class == Class::Write, request_copies > 0, "{op}");
            assert_eq!(class == Class::Read, answer_copies > 0, "{op}");
        }
        let fails = |op: &Op| op.describe().in_new_session == InNewSession::Fails;
        assert_eq!(Op::ALL.into_iter().filter(fails).collect::<Vec<_>>(), [Op::CompareAndWrite]);
        assert_eq!((Op::CompareAndWrite.request_data(512), Op::Read.answer_data(512)), (1024, 512));
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: OpSet = [Op::Read, Op::Flush].into_iter().collect();
        assert!(set.contains(Op::Read) && set.contains(Op::Flush) && !set.contains(Op::Write));
        assert_eq!(set.without(Op::Read).iter().collect::<Vec<_>>(), [Op::Flush]);
        assert_eq!(OpSet::from_bits(u32::MAX).iter().count(), Op::ALL.len());
    }
}
