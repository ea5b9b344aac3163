//! The nested lists about the ownership of an export: what a client claims, and what the target knows.

use crate::WireError;
use crate::attribute::{Reader, Writer, required};
use crate::name::NAME_MAX;

/// What a hello that opens a session says about the ownership of the export. A hello without a claim
/// asks for a shared session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The client wants to own the export, and does not know yet who owns it now. The target refuses
    /// the hello, and the refusal says so.
    Inquiry,
    /// The client has the ownership with this number, at least 1.
    Held(u64),
    /// The client claims the ownership that follows the one with the number `after`.
    Next {
        /// The number of the newest ownership that the client knows of.
        after: u64,
        /// Whether the client takes the export over from another host, or from shared sessions.
        takeover: bool,
    },
}

/// The ownership of an export.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// Nobody owns the export; hosts may share it.
    Free {
        /// The number of the newest ownership, which has ended; 0 if there was none.
        last: u64,
    },
    /// One host owns the export, and its sessions alone are admitted.
    Exclusive {
        /// The number of the ownership, at least 1. A later ownership has a higher number.
        number: u64,
        /// The name of the owner's host; [`crate::is_name`] holds.
        host: String,
        /// The beginning of the ownership in seconds since 1970, by the target's clock. It is only
        /// shown.
        since_s: u64,
    },
}

const CLAIM: &str = "claim";
const OWNERSHIP: &str = "ownership";

mod claim_attr {
    pub const NUMBER: u16 = 1;
    pub const AFTER: u16 = 2;
    pub const TAKEOVER: u16 = 3;
}

mod attr {
    pub const NUMBER: u16 = 1;
    pub const HOST: u16 = 2;
    pub const SINCE: u16 = 3;
}

impl Claim {
    pub(crate) fn write(&self) -> Writer {
        let mut w = Writer::new();
        match *self {
            Claim::Inquiry => {}
            Claim::Held(number) => {
                w.u64(claim_attr::NUMBER, number);
            }
            Claim::Next { after, takeover } => {
                w.u64(claim_attr::AFTER, after).u8(claim_attr::TAKEOVER, takeover.into());
            }
        }
        w
    }

    /// Reads a list. A claim that has the ownership and claims the next one at once is not allowed.
    pub(crate) fn read(message: &[u8]) -> Result<Claim, WireError> {
        let (mut number, mut after, mut takeover) = (None, None, false);
        let mut reader = Reader::new(CLAIM, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                claim_attr::NUMBER => number = Some(a.u64()?),
                claim_attr::AFTER => after = Some(a.u64()?),
                claim_attr::TAKEOVER => takeover = a.u8()? != 0,
                _ => {}
            }
        }
        let allowed = [
            (number != Some(0), claim_attr::NUMBER),
            (number.is_none() || after.is_none(), claim_attr::AFTER),
            (!takeover || after.is_some(), claim_attr::TAKEOVER),
        ];
        WireError::unless_all(CLAIM, &allowed)?;
        Ok(match (number, after) {
            (Some(number), _) => Claim::Held(number),
            (None, Some(after)) => Claim::Next { after, takeover },
            (None, None) => Claim::Inquiry,
        })
    }
}

impl Ownership {
    /// Returns the number of the newest ownership, ended or not.
    pub fn number(&self) -> u64 {
        match *self {
            Ownership::Free { last } => last,
            Ownership::Exclusive { number, .. } => number,
        }
    }

    pub(crate) fn write(&self) -> Writer {
        let mut w = Writer::new();
        w.u64(attr::NUMBER, self.number());
        if let Ownership::Exclusive { host, since_s, .. } = self {
            w.bytes(attr::HOST, host.as_bytes()).u64(attr::SINCE, *since_s);
        }
        w
    }

    pub(crate) fn read(message: &[u8]) -> Result<Ownership, WireError> {
        let (mut number, mut host, mut since) = (None, None, None);
        let mut reader = Reader::new(OWNERSHIP, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::NUMBER => number = Some(a.u64()?),
                attr::HOST => host = Some(a.text(NAME_MAX)?.to_owned()),
                attr::SINCE => since = Some(a.u64()?),
                _ => {}
            }
        }
        let number = required(number, OWNERSHIP, attr::NUMBER)?;
        let Some(host) = host else { return Ok(Ownership::Free { last: number }) };
        WireError::unless_all(OWNERSHIP, &[(number > 0, attr::NUMBER)])?;
        let since_s = required(since, OWNERSHIP, attr::SINCE)?;
        Ok(Ownership::Exclusive { number, host, since_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttributeRef;
    use crate::testing::*;
    use proptest::prelude::*;

    fn value(list: &'static str, kind: u16) -> WireError {
        WireError::Value(AttributeRef { list, kind })
    }

    #[test]
    fn a_claim_is_one_thing() {
        let read = |list: &[(u16, u64)]| {
            let mut w = Writer::new();
            for &(kind, value) in list {
                if kind == claim_attr::TAKEOVER {
                    w.u8(kind, value as u8)
                } else {
                    w.u64(kind, value)
                };
            }
            Claim::read(&w.finish())
        };
        assert_eq!(read(&[]), Ok(Claim::Inquiry));
        assert_eq!(read(&[(1, 7)]), Ok(Claim::Held(7)));
        assert_eq!(read(&[(1, 0)]), Err(value(CLAIM, 1)), "no ownership has the number 0");
        assert_eq!(read(&[(1, 7), (2, 7)]), Err(value(CLAIM, 2)));
        assert_eq!(read(&[(3, 1)]), Err(value(CLAIM, 3)), "a takeover of nothing");
        assert_eq!(read(&[(1, 7), (3, 1)]), Err(value(CLAIM, 3)));
        assert_eq!(read(&[(2, 7)]), Ok(Claim::Next { after: 7, takeover: false }));
        assert_eq!(read(&[(2, 0), (3, 9)]), Ok(Claim::Next { after: 0, takeover: true }));
        assert_eq!(Claim::read(&[1, 0, 1, 0, 7]), Err(value(CLAIM, 1)), "a number has eight bytes");
    }

    #[test]
    fn an_owner_has_a_name_and_a_time() {
        let bytes = Ownership::Exclusive { number: 7, host: "alpha".into(), since_s: 1 }.write().finish();
        let missing = |kind| Err(WireError::Missing(AttributeRef { list: OWNERSHIP, kind }));
        assert_eq!(Ownership::read(&without(&bytes, &[], 1)), missing(1));
        assert_eq!(Ownership::read(&without(&bytes, &[], 3)), missing(3));
        assert_eq!(Ownership::read(&without(&bytes, &[], 2)), Ok(Ownership::Free { last: 7 }));
        assert_eq!(Ownership::read(&with(&bytes, &[], 1, &[0; 8])), Err(value(OWNERSHIP, 1)));
        assert_eq!(Ownership::read(&with(&bytes, &[], 2, b"a\nb")), Err(value(OWNERSHIP, 2)));
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(claim in any_claim(), ownership in any_ownership()) {
            prop_assert_eq!(Claim::read(&claim.write().finish()), Ok(claim));
            prop_assert_eq!(Ownership::read(&ownership.write().finish()), Ok(ownership));
        }
    }
}
