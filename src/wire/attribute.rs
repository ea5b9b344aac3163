//! Type-length-value attributes: the data of handshake messages and events.
//!
//! | bytes | field |
//! | --- | --- |
//! | 2 | type |
//! | 2 | length of the value |
//! | length | value |
//!
//! A value may itself be a list of attributes. Each message and each nested list numbers its types
//! from 1. A reader skips types that it does not know, which is how the protocol grows. A type
//! below 64 may occur only once in a list; a type of 64 or more may occur repeatedly, with a
//! meaning that its definition gives.

use crate::{AttributeRef, WireError};

/// Returns whether `text` is a valid text value: 1 to `max` bytes without control characters
/// (Unicode category Cc: C0, DEL and C1). Names and reasons are logged unchanged, so a line break
/// in one would let a peer forge log lines.
pub fn is_text(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Returns the value in `found`, or [`WireError::Missing`] if there is none.
pub(crate) fn required<T>(found: Option<T>, list: &'static str, kind: u16) -> Result<T, WireError> {
    found.ok_or(WireError::Missing(AttributeRef { list, kind }))
}

/// Appends attributes to a message.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Creates an empty message.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Appends one attribute.
    ///
    /// # Panics
    /// If the value is longer than [`crate::ATTRIBUTES_MAX`]. Callers pass fields whose length was
    /// checked where they entered the process.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Writer {
        assert!(value.len() <= crate::ATTRIBUTES_MAX as usize, "attribute {kind} is {} bytes", value.len());
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    /// Appends an integer of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Writer {
        self.bytes(kind, &[value])
    }

    /// Appends an integer of two bytes.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Writer {
        self.bytes(kind, &value.to_le_bytes())
    }

    /// Appends an integer of four bytes.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Writer {
        self.bytes(kind, &value.to_le_bytes())
    }

    /// Appends an integer of eight bytes.
    pub fn u64(&mut self, kind: u16, value: u64) -> &mut Writer {
        self.bytes(kind, &value.to_le_bytes())
    }

    /// Appends a nested list.
    pub fn nested(&mut self, kind: u16, list: Writer) -> &mut Writer {
        self.bytes(kind, &list.bytes)
    }

    /// Returns the encoded message.
    pub fn finish(self) -> Vec<u8> {
        debug_assert!(
            self.bytes.len() <= crate::ATTRIBUTES_MAX as usize,
            "the message exceeds ATTRIBUTES_MAX"
        );
        self.bytes
    }
}

/// One attribute of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name of the attribute's list, for errors.
    pub list: &'static str,
    /// The attribute's type.
    pub kind: u16,
    /// The bytes of the value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Returns the error for a value that is not allowed.
    pub fn refused(&self) -> WireError {
        WireError::Value(AttributeRef { list: self.list, kind: self.kind })
    }

    fn array<const N: usize>(&self) -> Result<[u8; N], WireError> {
        self.value.try_into().map_err(|_| self.refused())
    }

    /// Returns the value as an integer of one byte.
    pub fn u8(&self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Returns the value as an integer of two bytes.
    pub fn u16(&self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Returns the value as an integer of four bytes.
    pub fn u32(&self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Returns the value as an integer of eight bytes.
    pub fn u64(&self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Returns the value as the 16 bytes of a UUID.
    pub fn uuid(&self) -> Result<[u8; 16], WireError> {
        self.array()
    }

    /// Returns the value as a code of one byte that `decode` knows.
    pub fn code<T>(&self, decode: fn(u8) -> Option<T>) -> Result<T, WireError> {
        decode(self.u8()?).ok_or(self.refused())
    }

    /// Returns the value as a list of at most `max` one-byte codes.
    pub fn codes(&self, max: usize) -> Result<&'a [u8], WireError> {
        if self.value.len() <= max { Ok(self.value) } else { Err(self.refused()) }
    }

    /// Returns the value as text: UTF-8 for which [`is_text`] holds.
    pub fn text(&self, max: usize) -> Result<&'a str, WireError> {
        let text = std::str::from_utf8(self.value).map_err(|_| self.refused())?;
        if is_text(text, max) { Ok(text) } else { Err(self.refused()) }
    }
}

/// Splits a message into its attributes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    list: &'static str,
    rest: &'a [u8],
    seen: u64,
}

impl<'a> Reader<'a> {
    /// Creates a reader of the attributes of `message`. Errors name the message `list`.
    pub fn new(list: &'static str, message: &'a [u8]) -> Reader<'a> {
        Reader { list, rest: message, seen: 0 }
    }

    /// Returns the next attribute, or `None` after the last one.
    ///
    /// # Errors
    /// An attribute runs past the end of the message, or a type below 64, as all known types are,
    /// occurs for the second time.
    #[allow(clippy::should_implement_trait, reason = "it returns a Result<Option>, for use with `?`")]
    pub fn next(&mut self) -> Result<Option<Attribute<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some((head, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(WireError::Cut { place: self.place(0), len: 4, left: self.rest.len() });
        };
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let Some((value, rest)) = rest.split_at_checked(len) else {
            return Err(WireError::Cut { place: self.place(kind), len, left: rest.len() });
        };
        if kind < 64 {
            if self.seen & 1 << kind != 0 {
                return Err(WireError::Twice(self.place(kind)));
            }
            self.seen |= 1 << kind;
        }
        self.rest = rest;
        Ok(Some(Attribute { list: self.list, kind, value }))
    }

    fn place(&self, kind: u16) -> AttributeRef {
        AttributeRef { list: self.list, kind }
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
        let place = |kind| AttributeRef { list: "test", kind };
        let next = |bytes| Reader::new("test", bytes).next();
        assert_eq!(next(&[1, 0, 2]), Err(WireError::Cut { place: place(0), len: 4, left: 3 }));
        assert_eq!(next(&[1, 0, 2, 0, 9]), Err(WireError::Cut { place: place(1), len: 2, left: 1 }));
        let mut twice = Reader::new("test", &[63, 0, 0, 0, 63, 0, 0, 0]);
        assert!(twice.next().is_ok());
        assert_eq!(twice.next(), Err(WireError::Twice(place(63))));
        let mut many = Reader::new("test", &[64, 0, 0, 0, 64, 0, 0, 0]);
        assert!(many.next().is_ok() && many.next().is_ok());
        assert_eq!(many.next(), Ok(None));
    }

    #[test]
    fn values_of_another_length_are_refused() {
        for len in 0..20 {
            let a = Attribute { list: "test", kind: 5, value: &[0; 20][..len] };
            let refused = Err(a.refused());
            assert_eq!(a.u8().map(|_| ()), if len == 1 { Ok(()) } else { refused });
            assert_eq!(a.u16().map(|_| ()), if len == 2 { Ok(()) } else { refused });
            assert_eq!(a.u32().map(|_| ()), if len == 4 { Ok(()) } else { refused });
            assert_eq!(a.u64().map(|_| ()), if len == 8 { Ok(()) } else { refused });
            assert_eq!(a.uuid().map(|_| ()), if len == 16 { Ok(()) } else { refused });
            assert_eq!(a.codes(9).map(|_| ()), if len <= 9 { Ok(()) } else { refused });
        }
    }

    #[test]
    fn text_is_printable_and_short() {
        for good in ["a", "nqn.2014-08.org:x", "größe ≠ 0", "a b"] {
            assert!(is_text(good, 16.max(good.len())), "{good}");
        }
        for bad in ["", "a\n", "\0", "\u{1b}[2J", "\u{7f}", "\u{85}", "four+"] {
            assert!(!is_text(bad, 4), "{bad:?}");
        }
        let not_utf8 = Attribute { list: "test", kind: 1, value: &[b'a', 0xff] };
        assert_eq!(not_utf8.text(9), Err(not_utf8.refused()));
    }

    proptest! {
        #[test]
        fn reads_back_what_was_written(list in proptest::collection::btree_map(any::<u16>(), any::<Vec<u8>>(), 0..16)) {
            let mut writer = Writer::new();
            for (kind, value) in &list {
                writer.bytes(*kind, value);
            }
            let message = writer.finish();
            let mut reader = Reader::new("test", &message);
            for (kind, value) in &list {
                prop_assert_eq!(reader.next(), Ok(Some(Attribute { list: "test", kind: *kind, value })));
            }
            prop_assert_eq!(reader.next(), Ok(None));
        }

        #[test]
        fn any_bytes_end(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new("test", &bytes);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
