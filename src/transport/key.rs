//! Reading the keys that secure a connection.

use std::path::Path;

use dst_security::{Psk, psk};
use dst_session::access::KeySource;

/// Returns the keys that `source` holds now. They are read for each handshake, so that they can be
/// replaced, and never kept. Reading takes a few system calls, so it must not happen where I/O
/// waits.
///
/// # Errors
/// A text that says what is wrong, with the name of the source and nothing of its content.
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
