//! The client's first message.
//!
//! A connection begins with the client's [`Hello`]; the target replies with [`crate::Welcome`] or
//! [`crate::Refusal`]. A client's first hello has no [`SessionRef`]: it opens a session, whose id
//! is in the welcome. This first connection carries no requests, only keep-alives and events. Each
//! further connection joins the session as a queue of its own.

use crate::WireError;
use crate::attribute::{Reader, Writer, required};
use crate::name::NAME_MAX;

pub use crate::{Cipher, Claim, Device, Digest, Previous, SessionRef, TEXT_MAX};

/// The maximum number of digests or ciphers that a client may offer.
pub const OFFERS_MAX: usize = 32;

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The lowest and the highest protocol version that the client speaks; at least 1, in this
    /// order.
    pub versions: (u16, u16),
    /// The export to attach; [`crate::is_name`] holds.
    pub export: String,
    /// The client's name for itself; [`crate::is_name`] holds.
    pub host: String,
    /// The session to join, or `None` to open a new one.
    pub session: Option<SessionRef>,
    /// The client's previous session, if the new session replaces it.
    pub previous: Option<Previous>,
    /// What a hello that opens a session claims of the ownership of the export, or `None` for a
    /// session that shares the export. The target ignores the claim of a hello that joins a
    /// session.
    pub claim: Option<Claim>,
    /// The number of transactions that the client would like to have outstanding on this
    /// connection: a wish, any number. The welcome grants the actual number.
    pub credits: u16,
    /// The wire codes of the digests that the client accepts, in order of preference, at most
    /// [`OFFERS_MAX`]. The target skips unknown codes. A hello without this attribute offers only
    /// [`Digest::None`].
    pub digests: Vec<u8>,
    /// The wire codes of the ciphers that the client accepts, likewise.
    pub ciphers: Vec<u8>,
    /// The time without a sign of life after which each side should give up the connection, in
    /// milliseconds: a wish. The welcome grants a time within [`crate::KEEP_ALIVE_MS`].
    pub keep_alive_ms: u32,
    /// Whether the client may abort requests.
    pub aborts: bool,
}

const LIST: &str = "hello";

mod attr {
    pub const VERSION_MIN: u16 = 1;
    pub const VERSION_MAX: u16 = 2;
    pub const EXPORT: u16 = 3;
    pub const HOST: u16 = 4;
    pub const SESSION: u16 = 5;
    pub const CREDITS: u16 = 6;
    pub const DIGESTS: u16 = 7;
    pub const CIPHERS: u16 = 8;
    pub const KEEP_ALIVE: u16 = 9;
    pub const PREVIOUS: u16 = 10;
    pub const CLAIM: u16 = 11;
    pub const ABORTS: u16 = 12;
}

impl Hello {
    /// Encodes the attributes of the message. The fields must be valid as described, or a target
    /// rejects the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        if self.aborts {
            w.u8(attr::ABORTS, 1);
        }
        w.u16(attr::VERSION_MIN, self.versions.0)
            .u16(attr::VERSION_MAX, self.versions.1)
            .bytes(attr::EXPORT, self.export.as_bytes())
            .bytes(attr::HOST, self.host.as_bytes())
            .u16(attr::CREDITS, self.credits)
            .bytes(attr::DIGESTS, &self.digests)
            .bytes(attr::CIPHERS, &self.ciphers)
            .u32(attr::KEEP_ALIVE, self.keep_alive_ms);
        if let Some(session) = &self.session {
            w.nested(attr::SESSION, session.write());
        }
        if let Some(previous) = &self.previous {
            w.nested(attr::PREVIOUS, previous.write());
        }
        if let Some(claim) = &self.claim {
            w.nested(attr::CLAIM, claim.write());
        }
        w.finish()
    }

    /// Decodes the attributes of a message.
    ///
    /// # Errors
    /// See [`WireError`]. Versions, export, host, credits and keep-alive are required, and the
    /// fields must be valid as described.
    pub fn decode(message: &[u8]) -> Result<Hello, WireError> {
        let (mut min, mut max, mut export, mut host) = (None, None, None, None);
        let (mut session, mut previous, mut claim) = (None, None, None);
        let (mut credits, mut keep_alive) = (None, None);
        let (mut digests, mut ciphers) = (vec![Digest::None as u8], vec![Cipher::None as u8]);
        let mut aborts = false;
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::VERSION_MIN => min = Some(a.u16()?),
                attr::VERSION_MAX => max = Some(a.u16()?),
                attr::EXPORT => export = Some(a.text(NAME_MAX)?.to_owned()),
                attr::HOST => host = Some(a.text(NAME_MAX)?.to_owned()),
                attr::SESSION => session = Some(SessionRef::read(a.value)?),
                attr::PREVIOUS => previous = Some(Previous::read(a.value)?),
                attr::CLAIM => claim = Some(Claim::read(a.value)?),
                attr::CREDITS => credits = Some(a.u16()?),
                attr::DIGESTS => digests = a.codes(OFFERS_MAX)?.to_vec(),
                attr::CIPHERS => ciphers = a.codes(OFFERS_MAX)?.to_vec(),
                attr::KEEP_ALIVE => keep_alive = Some(a.u32()?),
                attr::ABORTS => aborts = a.u8()? != 0,
                _ => {}
            }
        }
        let hello = Hello {
            versions: (required(min, LIST, attr::VERSION_MIN)?, required(max, LIST, attr::VERSION_MAX)?),
            export: required(export, LIST, attr::EXPORT)?,
            host: required(host, LIST, attr::HOST)?,
            session,
            previous,
            claim,
            credits: required(credits, LIST, attr::CREDITS)?,
            digests,
            ciphers,
            keep_alive_ms: required(keep_alive, LIST, attr::KEEP_ALIVE)?,
            aborts,
        };
        let allowed = [
            (hello.versions.0 >= 1, attr::VERSION_MIN),
            (hello.versions.1 >= hello.versions.0, attr::VERSION_MAX),
        ];
        WireError::unless_all(LIST, &allowed)?;
        Ok(hello)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{ATTRIBUTES_MAX, AttributeRef};
    use proptest::collection::vec;
    use proptest::option::of as option;
    use proptest::prelude::*;

    fn any_hello() -> impl Strategy<Value = Hello> {
        let offers = || vec(any::<u8>(), 0..=OFFERS_MAX);
        let numbers = (1u16.., any::<(u16, u16, u32, bool)>());
        let sessions = (option(any_session()), option(any_previous()), option(any_claim()));
        (numbers, any_name(), any_name(), sessions, offers(), offers()).prop_map(
            |(
                (min, (more, credits, keep_alive_ms, aborts)),
                export,
                host,
                (session, previous, claim),
                digests,
                ciphers,
            )| {
                Hello {
                    versions: (min, min.saturating_add(more)),
                    export,
                    host,
                    session,
                    previous,
                    claim,
                    credits,
                    digests,
                    ciphers,
                    keep_alive_ms,
                    aborts,
                }
            },
        )
    }

    fn example() -> Hello {
        Hello {
            versions: (1, 1),
            export: "vol".into(),
            host: "me".into(),
            session: Some(SessionRef { id: [7; 16], queue: 1, epoch: 1 }),
            previous: Some(Previous { session: [5; 16], instance: [6; 16] }),
            claim: Some(Claim::Held(3)),
            credits: 128,
            digests: vec![1, 0],
            ciphers: vec![0],
            keep_alive_ms: 10_000,
            aborts: false,
        }
    }

    fn value(kind: u16) -> Result<Hello, WireError> {
        Err(WireError::Value(AttributeRef { list: LIST, kind }))
    }

    #[test]
    fn what_is_missing_is_named() {
        let bytes = example().encode();
        for kind in [1, 2, 3, 4, 6, 9] {
            let missing = WireError::Missing(AttributeRef { list: "hello", kind });
            assert_eq!(Hello::decode(&without(&bytes, &[], kind)), Err(missing));
        }
        for kind in 1..=3 {
            let missing = WireError::Missing(AttributeRef { list: "session", kind });
            assert_eq!(Hello::decode(&without(&bytes, &[5], kind)), Err(missing));
        }
        for kind in 1..=2 {
            let missing = WireError::Missing(AttributeRef { list: "previous session", kind });
            assert_eq!(Hello::decode(&without(&bytes, &[10], kind)), Err(missing));
        }
        assert!(Hello::decode(&[]).is_err());
    }

    #[test]
    fn what_may_be_missing_has_a_default() {
        let mut bytes = example().encode();
        for kind in [5, 7, 8, 10, 11] {
            bytes = without(&bytes, &[], kind);
        }
        let bare = Hello {
            session: None,
            previous: None,
            claim: None,
            digests: vec![0],
            ciphers: vec![0],
            ..example()
        };
        assert_eq!(Hello::decode(&bytes), Ok(bare));
    }

    #[test]
    fn names_are_printable_and_not_too_long() {
        let bytes = example().encode();
        for kind in [attr::EXPORT, attr::HOST] {
            let longest = "n".repeat(NAME_MAX);
            assert!(Hello::decode(&with(&bytes, &[], kind, longest.as_bytes())).is_ok());
            let too_long = "n".repeat(NAME_MAX + 1);
            for name in [too_long.as_bytes(), b"", b"a\nb", b"\x1b[2J", b"\0", "\u{9b}".as_bytes(), b"\xff"] {
                assert_eq!(Hello::decode(&with(&bytes, &[], kind, name)), value(kind));
            }
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        let bytes = example().encode();
        let refused = |kind, bad: &[u8]| {
            assert_eq!(Hello::decode(&with(&bytes, &[], kind, bad)), value(kind), "{kind} {bad:?}");
        };
        refused(attr::VERSION_MIN, &[0, 0]);
        refused(attr::VERSION_MAX, &[0, 0]);
        refused(attr::DIGESTS, &[1; OFFERS_MAX + 1]);
        refused(attr::CIPHERS, &[1; OFFERS_MAX + 1]);
        // Wrong lengths, one of each type.
        refused(attr::CREDITS, &[1]);
        refused(attr::KEEP_ALIVE, &[0; 5]);
    }

    #[test]
    fn the_longest_hello_leaves_room_for_more_attributes() {
        let hello = Hello {
            export: "e".repeat(NAME_MAX),
            host: "h".repeat(NAME_MAX),
            digests: vec![1; OFFERS_MAX],
            ciphers: vec![1; OFFERS_MAX],
            ..example()
        };
        assert!(hello.encode().len() < 700 && 700 < ATTRIBUTES_MAX);
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(hello in any_hello()) {
            prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }

        #[test]
        fn unknown_attributes_are_passed_over(hello in any_hello(), unknown in any_unknown()) {
            let bytes = with_unknown(&hello.encode(), &[], &unknown);
            prop_assert_eq!(&Hello::decode(&bytes), &Ok(hello.clone()));
            if hello.session.is_some() {
                let nested = with_unknown(&bytes, &[attr::SESSION], &unknown);
                prop_assert_eq!(Hello::decode(&nested), Ok(hello));
            }
        }

        #[test]
        fn a_cut_hello_is_an_error_or_lacks_only_what_may_be_missing(hello in any_hello(), cut in any::<prop::sample::Index>()) {
            let bytes = hello.encode();
            if let Ok(read) = Hello::decode(&bytes[..cut.index(bytes.len())]) {
                let without_last = Hello { claim: None, ..hello };
                let without_two = Hello { previous: None, ..without_last.clone() };
                let without_all = Hello { session: None, ..without_two.clone() };
                prop_assert!([without_last, without_two, without_all].contains(&read), "{:?}", read);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in vec(any::<u8>(), 0..512)) {
            let _ = Hello::decode(&bytes);
        }

        #[test]
        fn any_change_of_a_byte_decodes_without_panic(hello in any_hello(), at in any::<prop::sample::Index>(), byte: u8) {
            let mut bytes = hello.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = Hello::decode(&bytes) {
                prop_assert_eq!(Hello::decode(&read.encode()), Ok(read));
            }
        }
    }
}
