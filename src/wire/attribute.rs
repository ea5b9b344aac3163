//! Type-length-value attributes, as the handshake and events carry them.
//!
//! | bytes | field |
//! | --- | --- |
//! | 2 | type |
//! | 2 | length of the value |
//! | length | value |
//!
//! A value may itself be a list of attributes. Types are counted from 1 in each message and each nested
//! list; a reader passes over types that it does not know, which is how the protocol grows.

use crate::WireError;

/// Appends attributes to a message.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty message.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Appends one attribute.
    ///
    /// # Panics
    /// If the value is longer than [`crate::ATTRIBUTES_MAX`]: values are made here from fields whose
    /// length was checked where they came from.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Writer {
        assert!(value.len() <= crate::ATTRIBUTES_MAX as usize, "attribute {kind} is {} bytes", value.len());
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// Appends a number of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Writer {
        self.bytes(kind, &[value])
    }

    /// Appends a number of two bytes.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Writer {
        self.bytes(kind, &value.to_le_bytes())
    }

    /// Appends a number of four bytes.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Writer {
        self.bytes(kind, &value.to_le_bytes())
    }

    /// Appends a number of eight bytes.
    pub fn u64(&mut self, kind: u16, value: u64) -> &mut Writer {
        self.bytes(kind, &value.to_le_bytes())
    }

    /// Appends a nested list.
    pub fn nested(&mut self, kind: u16, list: Writer) -> &mut Writer {
        self.bytes(kind, &list.bytes)
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// One attribute of a message, as it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type.
    pub kind: u16,
    /// Its bytes.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn array<const N: usize>(&self) -> Result<[u8; N], WireError> {
        self.value.try_into().map_err(|_| WireError::Value(self.kind))
    }

    /// The value as a number of one byte.
    pub fn u8(&self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The value as a number of two bytes.
    pub fn u16(&self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The value as a number of four bytes.
    pub fn u32(&self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The value as a number of eight bytes.
    pub fn u64(&self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The value as a UUID's 16 bytes.
    pub fn uuid(&self) -> Result<[u8; 16], WireError> {
        self.array()
    }

    /// The value as text: UTF-8 without control characters, 1 to `max` bytes.
    pub fn text(&self, max: usize) -> Result<&'a str, WireError> {
        let text = std::str::from_utf8(self.value).map_err(|_| WireError::Value(self.kind))?;
        if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
            return Err(WireError::Value(self.kind));
        }
        Ok(text)
    }
}

/// Splits a message into its attributes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    seen: u64,
}

impl<'a> Reader<'a> {
    /// Reads the attributes of `message`.
    pub fn new(message: &'a [u8]) -> Reader<'a> {
        Reader { rest: message, seen: 0 }
    }

    /// The next attribute, `None` after the last one.
    ///
    /// # Errors
    /// An attribute that is cut off, or a type below 64 (all that are known are) for the second time.
    #[allow(clippy::should_implement_trait, reason = "it returns a Result<Option>, for use with `?`")]
    pub fn next(&mut self) -> Result<Option<Attribute<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((head, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(WireError::Cut { kind: 0, len: 4, left: self.rest.len() });
        };
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let Some((value, rest)) = rest.split_at_checked(len) else {
            return Err(WireError::Cut { kind, len, left: rest.len() });
        };
        if kind < 64 {
            if self.seen & 1 << kind != 0 {
                return Err(WireError::Twice(kind));
            }
            self.seen |= 1 << kind;
        }
        self.rest = rest;
        Ok(Some(Attribute { kind, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_of_a_message() {
        let mut inner = Writer::new();
        inner.u8(1, 7);
        let mut message = Writer::new();
        message.u16(3, 0x0102).nested(4, inner);
        assert_eq!(message.finish(), [3, 0, 2, 0, 2, 1, 4, 0, 5, 0, 1, 0, 1, 0, 7]);
    }

    #[test]
    fn cut_off_and_repeated_attributes_are_errors() {
        assert_eq!(Reader::new(&[1, 0, 2]).next(), Err(WireError::Cut { kind: 0, len: 4, left: 3 }));
        assert_eq!(Reader::new(&[1, 0, 2, 0, 9]).next(), Err(WireError::Cut { kind: 1, len: 2, left: 1 }));
        let mut twice = Reader::new(&[5, 0, 0, 0, 5, 0, 0, 0]);
        assert!(twice.next().is_ok());
        assert_eq!(twice.next(), Err(WireError::Twice(5)));
    }

    proptest! {
        #[test]
        fn reads_back_what_was_written(list in proptest::collection::btree_map(any::<u16>(), any::<Vec<u8>>(), 0..16)) {
            let mut writer = Writer::new();
            for (kind, value) in &list {
                writer.bytes(*kind, value);
            }
            let message = writer.finish();
            let mut reader = Reader::new(&message);
            for (kind, value) in &list {
                prop_assert_eq!(reader.next(), Ok(Some(Attribute { kind: *kind, value })));
            }
            prop_assert_eq!(reader.next(), Ok(None));
        }

        #[test]
        fn any_bytes_end(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
