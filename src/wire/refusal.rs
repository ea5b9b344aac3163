//! The target's reply to a hello that it does not accept.

use crate::attribute::{Reader, Writer, required};
use crate::codes::codes;
use crate::{Ownership, WireError};

/// The maximum length of the text that explains a refusal, in bytes.
pub const TEXT_MAX: usize = 255;

codes! {
    /// The reason for a refusal. The number is its code on the wire. An unknown code is treated as
    /// `NotAllowed`.
    RefusalReason: u16 {
        /// The export does not exist, or does not admit this host from this address. The client is
        /// not told which.
        NotAllowed = 1 "not allowed",
        /// The two ends have no protocol version in common.
        Version = 2 "version",
        /// The two ends have no digest or cipher in common, or the export requires another one.
        Protection = 3 "protection",
        /// A limit of the target is reached; trying again later may help.
        Busy = 4 "busy",
        /// The target could not decode the hello.
        Malformed = 5 "malformed",
        /// The session to join does not exist, or belongs to another host or another export.
        NoSession = 6 "no session",
        /// The export is owned by another client, or shared by others; or the target does not know
        /// who owns it.
        Owned = 7 "owned",
    }
}

impl RefusalReason {
    /// Returns the reason with this code.
    pub fn from_code(code: u16) -> RefusalReason {
        RefusalReason::try_from_code(code).unwrap_or(RefusalReason::NotAllowed)
    }
}

/// The target's reply to a hello that it does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The reason.
    pub reason: RefusalReason,
    /// The reason for human readers. On the wire, the text has at most [`TEXT_MAX`] bytes and no
    /// control characters.
    pub text: String,
    /// The ownership of the export, as far as the target knows it. Only with [`RefusalReason::Owned`].
    pub ownership: Option<Ownership>,
}

const LIST: &str = "refusal";

mod attr {
    pub const REASON: u16 = 1;
    pub const TEXT: u16 = 2;
    pub const OWNERSHIP: u16 = 3;
}

impl Refusal {
    /// Encodes the attributes of the message.
    ///
    /// Control characters in the text, which may come from a name in the hello, are replaced by
    /// spaces, and a text that is too long is truncated: the text must not keep the reason from
    /// reaching the client.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(attr::REASON, self.reason as u16);
        let mut text: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        if !text.is_empty() {
            w.bytes(attr::TEXT, text.as_bytes());
        }
        if let Some(ownership) = &self.ownership {
            w.nested(attr::OWNERSHIP, ownership.write());
        }
        w.finish()
    }

    /// Decodes the attributes of a message.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(message: &[u8]) -> Result<Refusal, WireError> {
        let (mut reason, mut text, mut ownership) = (None, "no reason given", None);
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::REASON => reason = Some(RefusalReason::from_code(a.u16()?)),
                attr::TEXT => text = a.text(TEXT_MAX)?,
                attr::OWNERSHIP => ownership = Some(Ownership::read(a.value)?),
                _ => {}
            }
        }
        Ok(Refusal { reason: required(reason, LIST, attr::REASON)?, text: text.to_owned(), ownership })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttributeRef;
    use crate::testing::*;
    use proptest::collection::vec;
    use proptest::option::of as option;
    use proptest::prelude::*;

    #[test]
    fn every_code_names_one_reason() {
        for reason in RefusalReason::ALL {
            assert_eq!(RefusalReason::from_code(reason as u16), reason);
        }
        assert_eq!(RefusalReason::from_code(0), RefusalReason::NotAllowed);
        assert_eq!(RefusalReason::from_code(8), RefusalReason::NotAllowed);
    }

    #[test]
    fn the_reason_is_required_and_the_text_is_not() {
        let busy = |text: &str| Refusal { reason: RefusalReason::Busy, text: text.into(), ownership: None };
        let bytes = busy("later").encode();
        let missing = WireError::Missing(AttributeRef { list: "refusal", kind: attr::REASON });
        assert_eq!(Refusal::decode(&without(&bytes, &[], attr::REASON)), Err(missing));
        assert_eq!(Refusal::decode(&without(&bytes, &[], attr::TEXT)), Ok(busy("no reason given")));
        for text in [&b""[..], b"a\nb", &[b'a'; TEXT_MAX + 1]] {
            assert!(Refusal::decode(&with(&bytes, &[], attr::TEXT, text)).is_err());
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(code in 1u16..=7, text in any_name(), ownership in option(any_ownership())) {
            let refusal = Refusal { reason: RefusalReason::from_code(code), text, ownership };
            prop_assert_eq!(Refusal::decode(&refusal.encode()), Ok(refusal));
        }

        #[test]
        fn whatever_the_text_the_reason_arrives(code in 1u16..=7, text in ".{0,300}|\\PC{0,300}|[\\x00-\\x1f]{0,9}") {
            let refusal = Refusal { reason: RefusalReason::from_code(code), text, ownership: None };
            prop_assert_eq!(Refusal::decode(&refusal.encode()).map(|r| r.reason), Ok(refusal.reason));
        }

        #[test]
        fn unknown_attributes_are_passed_over(text in any_name(), ownership in any_ownership(), unknown in any_unknown()) {
            let refusal = Refusal { reason: RefusalReason::Owned, text, ownership: Some(ownership) };
            let mut bytes = refusal.encode();
            for path in [&[] as &[u16], &[attr::OWNERSHIP]] {
                bytes = with_unknown(&bytes, path, &unknown);
                prop_assert_eq!(&Refusal::decode(&bytes), &Ok(refusal.clone()));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in vec(any::<u8>(), 0..64)) {
            let _ = Refusal::decode(&bytes);
        }
    }
}
