//! The operations of a block device.

use crate::WireError;

/// What a request asks for. The number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Blocks travel with the answer.
    Read = 1,
    /// Blocks travel with the request.
    Write = 2,
    /// All writes completed before it, on every connection, become durable.
    Flush = 3,
    /// The blocks' content is no longer needed.
    Unmap = 4,
    /// The blocks become zeroes.
    WriteZeroes = 5,
    /// The request carries the expected blocks, then the new ones; they are written if the expected ones
    /// are there, as one step that no other operation can come between.
    CompareAndWrite = 6,
    /// Whatever the backend has outstanding is ended.
    Reset = 7,
}

impl Op {
    /// All operations, in the order of their codes.
    pub const ALL: [Op; 7] =
        [Op::Read, Op::Write, Op::Flush, Op::Unmap, Op::WriteZeroes, Op::CompareAndWrite, Op::Reset];

    /// The operation of a request's code.
    pub fn from_code(code: u8) -> Result<Op, WireError> {
        match code {
            1..=7 => Ok(Op::ALL[usize::from(code) - 1]),
            _ => Err(WireError::Op(code)),
        }
    }

    /// Whether it can change what a later read returns. A read-only connection may not ask for these.
    pub fn modifies(self) -> bool {
        matches!(self, Op::Write | Op::Unmap | Op::WriteZeroes | Op::CompareAndWrite)
    }

    /// Whether it names a range of blocks.
    pub fn has_range(self) -> bool {
        !matches!(self, Op::Flush | Op::Reset)
    }

    /// Bytes of data that travel with a request for `bytes` bytes of blocks.
    pub fn request_data(self, bytes: u64) -> u64 {
        match self {
            Op::Write => bytes,
            Op::CompareAndWrite => bytes.saturating_mul(2),
            _ => 0,
        }
    }

    /// Bytes of data that travel with a successful answer to a request for `bytes` bytes of blocks.
    pub fn answer_data(self, bytes: u64) -> u64 {
        match self {
            Op::Read => bytes,
            _ => 0,
        }
    }
}

/// A set of operations: bit `1 << code` for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpSet(u32);

impl OpSet {
    /// No operation.
    pub const NONE: OpSet = OpSet(0);

    /// The set with these bits; bits of operations that are not known here are kept and ignored.
    pub const fn from_bits(bits: u32) -> OpSet {
        OpSet(bits)
    }

    /// The bits as they are on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set with `op` added.
    #[must_use]
    pub const fn with(self, op: Op) -> OpSet {
        OpSet(self.0 | 1 << op as u8)
    }

    /// The set with `op` taken out.
    #[must_use]
    pub const fn without(self, op: Op) -> OpSet {
        OpSet(self.0 & !(1 << op as u8))
    }

    /// Whether `op` is in the set.
    pub const fn contains(self, op: Op) -> bool {
        self.0 & 1 << op as u8 != 0
    }

    /// The operations of the set that are known here.
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
    fn every_code_names_one_operation() {
        for op in Op::ALL {
            assert_eq!(Op::from_code(op as u8), Ok(op));
        }
        assert_eq!(Op::from_code(0), Err(WireError::Op(0)));
        assert_eq!(Op::from_code(8), Err(WireError::Op(8)));
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: OpSet = [Op::Read, Op::Flush].into_iter().collect();
        assert!(set.contains(Op::Read) && set.contains(Op::Flush) && !set.contains(Op::Write));
        assert_eq!(set.without(Op::Read).iter().collect::<Vec<_>>(), [Op::Flush]);
        assert_eq!(OpSet::from_bits(u32::MAX).iter().count(), Op::ALL.len());
    }
}
