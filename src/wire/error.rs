//! What can be wrong with bytes from a peer.

use std::fmt;
use thiserror::Error;

/// Which attribute of which list an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The message or nested list: `hello`, `session`, `device`, …
    pub list: &'static str,
    /// The attribute's type, 0 when even that is cut off.
    pub kind: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {} of {}", self.kind, self.list)
    }
}

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
    /// An attribute runs past the end of its list.
    #[error("{place}, of {len} bytes, runs past the end, {left} bytes are left")]
    Cut {
        /// The attribute.
        place: Place,
        /// Its announced length.
        len: usize,
        /// What is there.
        left: usize,
    },
    /// An attribute's value has the wrong length or an impossible value.
    #[error("{0} has a value that is not allowed")]
    Value(Place),
    /// The same attribute is there twice.
    #[error("{0} is there twice")]
    Twice(Place),
    /// A list lacks an attribute that it can't do without.
    #[error("{0} is missing")]
    Missing(Place),
}

impl WireError {
    /// `Err` for the first attribute of `list` that is not allowed.
    pub(crate) fn unless_all(list: &'static str, allowed: &[(bool, u16)]) -> Result<(), WireError> {
        match allowed.iter().find(|(allowed, _)| !allowed) {
            Some(&(_, kind)) => Err(WireError::Value(Place { list, kind })),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_list_and_attribute() {
        let place = Place { list: "device", kind: 3 };
        assert_eq!(WireError::Missing(place).to_string(), "attribute 3 of device is missing");
        assert_eq!(
            WireError::Cut { place, len: 9, left: 1 }.to_string(),
            "attribute 3 of device, of 9 bytes, runs past the end, 1 bytes are left"
        );
    }
}
