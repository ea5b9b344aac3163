//! How a connection is secured: control checks that its client has the key of its entry, before anything else is
//! done for it.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use dst_security::handshake::ENTROPY_LEN;
use dst_security::{Psk, Rejected, Secured, accept, psk};
use dst_session::access::entry;
use dst_session::negotiate::refuse;
use dst_wire::secure::Secure;
use dst_wire::{Cipher, RefusalReason};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::control::Target;
use crate::sessions::Owner;

/// What a connection's client has shown to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Who it is and what it wants: its hello has to say the same.
    pub owner: Owner,
    /// The file whose key it has.
    pub psk_file: String,
    /// The cipher.
    pub cipher: Cipher,
}

/// Why a connection is not secured. For the log.
#[derive(Debug, Error)]
enum Refused {
    /// There is nothing that it could be secured for.
    #[error("{0}")]
    NoEntry(&'static str),
    /// The entry's key can't be had.
    #[error("its key's file {0}")]
    File(String),
    /// It does not have the key, or nothing else in common.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// The keys in a file, read for this handshake alone.
fn read_keys(path: &str) -> Result<Vec<Psk>, Refused> {
    let text =
        spdk::secret_file::read(Path::new(path)).map_err(|error| Refused::File(format!("{path} {error}")))?;
    psk::parse(&text).map_err(|error| Refused::File(format!("{path} is of no use: {error}")))
}

impl Target {
    /// A connection is to be secured.
    pub(crate) fn secure(self: &Rc<Self>, id: u64, message: &[u8], peer: SocketAddr) {
        let Some(group) = self.group_of_open(id) else { return };
        // The connection has read it already.
        let Ok(secure) = Secure::decode(message) else { return self.close(id) };
        match self.prove(&secure, peer) {
            Ok((proof, answer, secured)) => {
                if let Some(entry) = self.state.borrow_mut().connections.get_mut(&id) {
                    entry.proof = Some(proof);
                }
                self.on_group(group, move |group| group.secure(id, &answer, secured));
            }
            Err(why) => {
                self.state.borrow_mut().refused_hellos += 1;
                self.refusal_log.warn(format_args!(
                    "DST host {:?} from {peer} refused at export {:?}: {why}",
                    secure.offer.host, secure.offer.export
                ));
                let refusal = match &why {
                    // To whoever has the key.
                    Refused::Rejected(Rejected::Version(..)) => {
                        refuse(RefusalReason::Version, why.to_string())
                    }
                    Refused::Rejected(Rejected::Cipher) => refuse(RefusalReason::Protection, why.to_string()),
                    // To anybody: always the same, nothing about what exists, or how near it was.
                    _ => refuse(RefusalReason::NotAllowed, "not allowed"),
                };
                self.on_group(group, move |group| group.refuse(id, &refusal));
            }
        }
    }

    fn prove(&self, secure: &Secure<'_>, peer: SocketAddr) -> Result<(Proof, Vec<u8>, Secured), Refused> {
        let offer = &secure.offer;
        let psk_file = {
            let state = self.state.borrow();
            let export = state.exports.get(&offer.export).filter(|export| export.deleting.is_none());
            let hosts = &export.ok_or(Refused::NoEntry("there is no such export"))?.hosts;
            let entry = entry(hosts, &offer.host, peer.ip())
                .ok_or(Refused::NoEntry("the export has no entry that lets this host in from there"))?;
            entry
                .psk_file
                .clone()
                .ok_or(Refused::NoEntry("it wants to be let in with a key, but its entry has none"))?
        };
        let keys = read_keys(&psk_file)?;
        let mut entropy = Zeroizing::new([0; ENTROPY_LEN]);
        spdk::random::fill(&mut entropy[..]);
        let (answer, secured) = accept(&keys, secure, &entropy)?;
        let owner = Owner { export: offer.export.clone(), host: offer.host.clone() };
        Ok((Proof { owner, psk_file, cipher: secured.cipher }, answer, secured))
    }
}
