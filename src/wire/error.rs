//! The errors of decoding bytes from a peer.

use std::fmt;
use thiserror::Error;

/// The attribute and the list that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeRef {
    /// The message or nested list: `hello`, `session`, `device`, …
    pub list: &'static str,
    /// The attribute's type, or 0 if the type itself is cut off.
    pub kind: u16,
}

impl fmt::Display for AttributeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {} of {}", self.kind, self.list)
    }
}

/// The reason why a byte string is not a DST message. After any of these errors, the stream cannot
/// be trusted and the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// The header's CRC32C does not match its bytes.
    #[error("header CRC32C is {found:#010x}, computed {computed:#010x}")]
    HeaderCrc {
        /// The value in the header.
        found: u32,
        /// The value over the header's bytes.
        computed: u32,
    },
    /// The kind of the frame is unknown to this version.
    #[error("frame kind {0} is not known")]
    Kind(u8),
    /// The operation of a request is unknown to this version.
    #[error("operation {0} is not known")]
    Op(u8),
    /// The frame announces more data than its kind may carry.
    #[error("a frame of kind {kind} announces {len} bytes of data, at most {max} are allowed")]
    DataLen {
        /// The kind's code.
        kind: u8,
        /// The announced size of the data, in bytes.
        len: u32,
        /// The limit for this kind.
        max: u32,
    },
    /// An attribute runs past the end of its list.
    #[error("{place}, of {len} bytes, runs past the end, {left} bytes are left")]
    Cut {
        /// The attribute.
        place: AttributeRef,
        /// The announced length, in bytes.
        len: usize,
        /// The bytes that are left in the list.
        left: usize,
    },
    /// An attribute's value has the wrong length or an impossible value.
    #[error("{0} has a value that is not allowed")]
    Value(AttributeRef),
    /// An attribute occurs twice in one list.
    #[error("{0} occurs twice")]
    Twice(AttributeRef),
    /// A list lacks a required attribute.
    #[error("{0} is missing")]
    Missing(AttributeRef),
}

impl WireError {
    /// Returns an error for the first attribute of `list` that is not allowed. `allowed` has, for
    /// each attribute, whether its value is allowed, and its type.
    pub(crate) fn unless_all(list: &'static str, allowed: &[(bool, u16)]) -> Result<(), WireError> {
        match allowed.iter().find(|(allowed, _)| !allowed) {
            Some(&(_, kind)) => Err(WireError::Value(AttributeRef { list, kind })),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_list_and_attribute() {
        let place = AttributeRef { list: "device", kind: 3 };
        assert_eq!(WireError::Missing(place).to_string(), "attribute 3 of device is missing");
        assert_eq!(
            WireError::Cut { place, len: 9, left: 1 }.to_string(),
            "attribute 3 of device, of 9 bytes, runs past the end, 1 bytes are left"
        );
    }
}
