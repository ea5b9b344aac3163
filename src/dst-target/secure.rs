//! The control thread's part in securing a connection: it checks that the client has the key of its
//! entry, before it does anything else for the client.

use std::rc::Rc;

use dst_broker::{ClientId, ConnectionId, Input, KeyQuery, Proof};
use dst_security::handshake::ENTROPY_LEN;
use dst_security::psk::{KEYS_MAX, PSK_LEN};
use dst_security::{Psk, Rejected, Secured, accept};
use dst_session::access::KeySource;
use dst_session::negotiate::refuse;
use dst_wire::RefusalReason;
use dst_wire::secure::Secure;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::control::Target;
use crate::keys::KeyReader;
use crate::messages::ToGroup;

/// The reason for which a connection is not secured, for the log.
#[derive(Debug, Error)]
enum Refused {
    /// There is no entry with a key for this client.
    #[error("{0}")]
    NoEntry(&'static str),
    /// The entry's keys can't be read. The name of the entry's parameter, and the reason.
    #[error("{0}: {1}")]
    Keys(&'static str, String),
    /// The client does not have the key, or has no version or cipher in common with the target.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Checks a client's key against those of its entry. `read` reads the keys of an entry, and `agree`
/// tries them.
///
/// A client without an entry must not learn that from the time until its refusal. So the same work
/// is done for it as for a wrong key: the keys of `decoy`, another entry, are read, and random keys
/// are tried. The number of tried keys is always the maximum for an entry, so that the time does
/// not tell how many keys the entry has.
fn check<'a, T>(
    entry: Result<&'a KeySource, Refused>,
    decoy: Option<&KeySource>,
    read: impl FnOnce(&KeySource) -> Result<Vec<Psk>, Refused>,
    agree: impl FnOnce(&[Psk]) -> Result<T, Rejected>,
) -> Result<(&'a KeySource, T), Refused> {
    let keys = entry.as_ref().ok().copied().or(decoy).map(read);
    let why = match (entry, keys) {
        (Ok(source), Some(Ok(keys))) => return Ok((source, agree(&fill_up(keys))?)),
        (Ok(_), Some(Err(why))) | (Err(why), _) => why,
        (Ok(_), None) => unreachable!("an entry's keys are read"),
    };
    drop(agree(&fill_up(Vec::new())));
    Err(why)
}

/// Returns these keys, followed by random ones up to the maximum for an entry.
fn fill_up(mut keys: Vec<Psk>) -> Vec<Psk> {
    // The list has room for all, since one that grows would leave copies of keys in freed memory.
    keys.resize_with(KEYS_MAX, random_key);
    keys
}

fn random_key() -> Psk {
    let mut key = Zeroizing::new([0; PSK_LEN]);
    spdk::random::fill(&mut key[..]);
    Psk::new(key)
}

impl Target {
    /// Handles a client's part of the key agreement.
    pub(crate) fn secure(self: &Rc<Self>, connection: ConnectionId, message: &[u8]) {
        // The connection has decoded the message once already, so this is not expected to fail.
        let Ok(secure) = Secure::decode(message) else { return self.tell(Input::Malformed { connection }) };
        let offer = &secure.offer;
        let client = ClientId { export: offer.export.clone(), host: offer.host.clone() };
        let query = self.broker.borrow().keys_for(connection, &client);
        let Some(query) = query else { return };
        match prove(&self.keys, &secure, &query) {
            Ok((keys, answer, secured)) => {
                let proof = Proof { client, keys, cipher: secured.cipher };
                self.tell(Input::KeyShown { connection, proof });
                let group = self.broker.borrow().group_of_open(connection);
                if let Some(group) = group {
                    let secured = Box::new(secured);
                    self.tell_group(group, ToGroup::Secure { connection, answer, secured });
                }
            }
            Err(why) => {
                let refusal = match &why {
                    // A client that has the key is told the reason.
                    Refused::Rejected(Rejected::Version(..)) => {
                        refuse(RefusalReason::Version, why.to_string())
                    }
                    Refused::Rejected(Rejected::Cipher) => refuse(RefusalReason::Protection, why.to_string()),
                    // Any other client is always told the same, which says nothing about what
                    // exists.
                    _ => refuse(RefusalReason::NotAllowed, "not allowed"),
                };
                self.tell(Input::KeyRefused { connection, client, why: why.to_string(), refusal });
            }
        }
    }
}

/// Checks that a client has one of the keys of its entry. Returns the source of that key, the
/// target's part of the key agreement, and the keys of the connection.
fn prove(
    keys: &KeyReader,
    secure: &Secure<'_>,
    query: &KeyQuery,
) -> Result<(KeySource, Vec<u8>, Secured), Refused> {
    let mut entropy = Zeroizing::new([0; ENTROPY_LEN]);
    spdk::random::fill(&mut entropy[..]);
    let agree = |keys: &[Psk]| accept(keys, secure, &entropy);
    let entry = query.keys.as_ref().map_err(|&why| Refused::NoEntry(why));
    // The keys are read for this handshake alone and not kept.
    let read = |source: &KeySource| {
        keys.read(source).map_err(|why| Refused::Keys(source.parameter().0, why.to_string()))
    };
    let (source, (answer, secured)) = check(entry, query.decoy.as_ref(), read, agree)?;
    Ok((source.clone(), answer, secured))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// What [`check`] does: what is read, how many keys are tried, and what comes of it. The file
    /// `one` has one key, others two.
    fn done(entry: Option<&str>, decoy: Option<&str>, key_is_right: bool) -> (Vec<String>, usize, String) {
        let (was_read, tried) = (RefCell::new(Vec::new()), Cell::new(0));
        let file = |path: &str| KeySource::File(path.to_owned());
        let (entry, decoy) = (entry.map(file), decoy.map(file));
        let read = |source: &KeySource| {
            let (parameter, path) = source.parameter();
            was_read.borrow_mut().push(path.to_owned());
            match path {
                "gone" => Err(Refused::Keys(parameter, "gone".to_owned())),
                "one" => Ok(vec![Psk::new(Zeroizing::new([1; 32]))]),
                _ => Ok([1, 2].map(|key| Psk::new(Zeroizing::new([key; 32]))).to_vec()),
            }
        };
        let agree = |keys: &[Psk]| {
            tried.set(keys.len());
            if key_is_right { Ok(()) } else { Err(Rejected::Key) }
        };
        let entry = entry.as_ref().ok_or(Refused::NoEntry("no entry"));
        let outcome = match check(entry, decoy.as_ref(), read, agree) {
            Ok((source, ())) => format!("in, with {}", source.parameter().1),
            Err(why) => why.to_string(),
        };
        (was_read.take(), tried.get(), outcome)
    }

    #[test]
    fn who_has_no_entry_costs_as_much_as_a_wrong_key() {
        let (was_read, tried, why) = done(Some("a"), Some("other"), false);
        assert_eq!(
            (was_read, tried, why.as_str()),
            (vec!["a".into()], 4, "it does not have the key of its entry")
        );
        // However many keys either has.
        assert_eq!(done(Some("one"), Some("other"), false).1, 4);
        let (was_read, tried, why) = done(None, Some("other"), false);
        assert_eq!((was_read, tried, why.as_str()), (vec!["other".into()], 4, "no entry"));
        // Nor is it told by a file that can't be read.
        let (was_read, tried, why) = done(Some("gone"), Some("other"), false);
        assert_eq!((was_read, tried, why.as_str()), (vec!["gone".into()], 4, "psk_file: gone"));
        let (was_read, tried, why) = done(None, Some("gone"), false);
        assert_eq!((was_read, tried, why.as_str()), (vec!["gone".into()], 4, "no entry"));
        // No entry of this target has a key: there is nothing to read, and nothing to hide.
        assert_eq!(done(None, None, false), (vec![], 4, "no entry".to_owned()));
    }

    #[test]
    fn nobody_gets_in_without_an_entry_whatever_is_tried() {
        assert_eq!(done(Some("a"), Some("other"), true).2, "in, with a");
        assert_eq!(done(None, Some("other"), true).2, "no entry");
        assert_eq!(done(None, None, true).2, "no entry");
        assert_eq!(done(Some("gone"), None, true).2, "psk_file: gone");
    }
}
