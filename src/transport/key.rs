//! Reading the keys that secure a connection.

use std::io;
use std::path::Path;

use dst_security::{Psk, psk};
use dst_session::access::KeySource;
use spdk::keyring::KeyringError;
use spdk::secret_file::SecretFileError;
use thiserror::Error;

/// The reason why keys cannot be had: a text with the name of the source and nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The source is not there. It may come.
    #[error("{0}")]
    Missing(String),
    /// The source is there, and not what it should be.
    #[error("{0}")]
    Unusable(String),
}

/// Returns the keys that `source` holds now. They are read for each handshake, so that they can be
/// replaced, and never kept. Reading takes a few system calls, so it must not happen where I/O
/// waits.
///
/// # Errors
/// See [`KeyError`].
pub fn read_keys(source: &KeySource) -> Result<Vec<Psk>, KeyError> {
    let text = match source {
        KeySource::File(path) => spdk::secret_file::read(Path::new(path)).map_err(|error| {
            let is_missing = matches!(&error, SecretFileError::Open(why) if is_absence(why.kind()));
            key_error(is_missing, format!("{path} {error}"))
        }),
        KeySource::Keyring(name) => spdk::keyring::read(name).map_err(|error| {
            let is_missing = matches!(error, KeyringError::Missing);
            key_error(is_missing, format!("key {name} {error}"))
        }),
    }?;
    psk::parse(&text).map_err(|error| {
        KeyError::Unusable(match source {
            KeySource::File(path) => format!("{path}: {error}"),
            KeySource::Keyring(name) => format!("key {name}: {error}"),
        })
    })
}

fn is_absence(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn key_error(is_missing: bool, text: String) -> KeyError {
    if is_missing { KeyError::Missing(text) } else { KeyError::Unusable(text) }
}
