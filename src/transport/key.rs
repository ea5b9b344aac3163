//! The keys with which a connection is secured, from where they are kept.

use std::path::Path;

use dst_security::{Psk, psk};
use dst_session::access::KeySource;

/// The keys that are there now: read for each handshake, so that they can be replaced, and kept by nobody. A few system
/// calls: not for where I/O waits.
///
/// # Errors
/// What is wrong, with the source's name, and nothing of its content.
pub fn read_keys(source: &KeySource) -> Result<Vec<Psk>, String> {
    let text = match source {
        KeySource::File(path) => {
            spdk::secret_file::read(Path::new(path)).map_err(|error| format!("{path} {error}"))
        }
        KeySource::Keyring(name) => spdk::keyring::read(name).map_err(|error| format!("key {name} {error}")),
    }?;
    psk::parse(&text).map_err(|error| match source {
        KeySource::File(path) => format!("{path}: {error}"),
        KeySource::Keyring(name) => format!("key {name}: {error}"),
    })
}
