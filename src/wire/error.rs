//! What can be wrong with bytes from a peer.

use thiserror::Error;

/// Why a byte string is not a DST message. After any of these the stream can't be trusted any more and
/// the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// The header's own CRC32C is not that of its bytes.
    #[error("header CRC32C is {found:#010x}, computed {computed:#010x}")]
    HeaderCrc {
        /// The value in the header.
        found: u32,
        /// The value over the header's bytes.
        computed: u32,
    },
    /// A kind of frame that this version does not have.
    #[error("frame kind {0} is not known")]
    Kind(u8),
    /// A request with an operation that this version does not have.
    #[error("operation {0} is not known")]
    Op(u8),
    /// More data than the frame's kind may carry.
    #[error("a frame of kind {kind} announces {len} bytes of data, at most {max} are allowed")]
    DataLen {
        /// The kind's code.
        kind: u8,
        /// The bytes announced.
        len: u32,
        /// The limit for this kind.
        max: u32,
    },
    /// An attribute runs past the end of its message.
    #[error("attribute {kind} of {len} bytes runs past the end of its message, {left} bytes are left")]
    Cut {
        /// The attribute's type, 0 when even that is cut off.
        kind: u16,
        /// Its announced length.
        len: usize,
        /// What is there.
        left: usize,
    },
    /// An attribute's value has the wrong length or an impossible value.
    #[error("attribute {0} has a value that is not allowed")]
    Value(u16),
    /// The same attribute is there twice.
    #[error("attribute {0} is there twice")]
    Twice(u16),
    /// A message lacks an attribute that it can't do without.
    #[error("attribute {0} is missing")]
    Missing(u16),
}
