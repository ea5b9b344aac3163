//! Events: changes that a target reports unasked.

use crate::attribute::{Reader, Writer, required};
use crate::codes::codes;
use crate::{AttributeRef, WireError, device};

/// A change of the export. The header's code identifies the event; the attributes carry the
/// details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The device's new size in blocks. [`crate::Device::resized`] checks it against the block
    /// size.
    Resized(u64),
    /// The export is gone, or no longer admits this host. The session ends.
    Removed,
}

codes! {
    /// The code of an event in its header.
    EventCode: u8 {
        /// The code of [`Event::Resized`].
        Resized = 1 "resized",
        /// The code of [`Event::Removed`].
        Removed = 2 "removed",
    }
}

const LIST: &str = "resized";

mod attr {
    pub const NUM_BLOCKS: u16 = 1;
}

impl Event {
    /// Returns the code for the header.
    pub fn code(self) -> u8 {
        match self {
            Event::Resized(_) => EventCode::Resized.code(),
            Event::Removed => EventCode::Removed.code(),
        }
    }

    /// Encodes the attributes of the message.
    pub fn encode(self) -> Vec<u8> {
        let mut w = Writer::new();
        if let Event::Resized(num_blocks) = self {
            w.u64(attr::NUM_BLOCKS, num_blocks);
        }
        w.finish()
    }

    /// Decodes an event. Returns `None` for an unknown event, whatever its data; the caller skips
    /// it.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(code: u8, message: &[u8]) -> Result<Option<Event>, WireError> {
        match EventCode::try_from_code(code) {
            Some(EventCode::Resized) => Event::resized(message).map(Some),
            Some(EventCode::Removed) => Ok(Some(Event::Removed)),
            None => Ok(None),
        }
    }

    fn resized(message: &[u8]) -> Result<Event, WireError> {
        let mut num_blocks = None;
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            if a.kind == attr::NUM_BLOCKS {
                num_blocks = Some(a.u64()?);
            }
        }
        let num_blocks = required(num_blocks, LIST, attr::NUM_BLOCKS)?;
        if !(1..=i64::MAX as u64 / u64::from(*device::BLOCK_SIZES.start())).contains(&num_blocks) {
            return Err(WireError::Value(AttributeRef { list: LIST, kind: attr::NUM_BLOCKS }));
        }
        Ok(Event::Resized(num_blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const RESIZED: u8 = EventCode::Resized.code();
    const REMOVED: u8 = EventCode::Removed.code();

    #[test]
    fn a_size_is_required_and_possible() {
        let place = AttributeRef { list: "resized", kind: 1 };
        assert_eq!(Event::decode(RESIZED, &[]), Err(WireError::Missing(place)));
        for num_blocks in [0, i64::MAX as u64 / 512 + 1, u64::MAX] {
            let bytes = Event::Resized(num_blocks).encode();
            assert_eq!(Event::decode(RESIZED, &bytes), Err(WireError::Value(place)));
        }
    }

    #[test]
    fn an_unknown_event_is_passed_over_whatever_is_in_it() {
        // Attribute 1 with 2 bytes: in a resize, an error.
        let bytes = [1, 0, 2, 0, 7, 7];
        assert!(Event::decode(RESIZED, &bytes).is_err());
        for code in (0..=u8::MAX).filter(|code| ![RESIZED, REMOVED].contains(code)) {
            assert_eq!(Event::decode(code, &bytes), Ok(None));
        }
        assert_eq!(Event::decode(REMOVED, &bytes), Ok(Some(Event::Removed)));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(num_blocks in 1..=i64::MAX as u64 / 512, unknown in any_unknown()) {
            for event in [Event::Resized(num_blocks), Event::Removed] {
                prop_assert_eq!(Event::decode(event.code(), &event.encode()), Ok(Some(event)));
                let more = with_unknown(&event.encode(), &[], &unknown);
                prop_assert_eq!(Event::decode(event.code(), &more), Ok(Some(event)));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(code: u8, bytes in vec(any::<u8>(), 0..64)) {
            let _ = Event::decode(code, &bytes);
        }
    }
}
