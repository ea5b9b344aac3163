//! The errors of reading a key from SPDK's keyring.

use thiserror::Error;

use crate::errno::Errno;
use crate::secret_file::SECRET_FILE_MAX;

/// The reason why a key could not be read. The text continues a sentence that begins with the key's
/// name, and contains nothing of the key.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// This version of SPDK has no keyring.
    #[error(
        "can't be looked up: SPDK {0} has no keyring, 24.05 is the first that has one; give a psk_file instead"
    )]
    NoKeyring(String),
    /// The keyring has no such key.
    #[error("is not in SPDK's keyring")]
    Missing,
    /// The keyring failed to return the key.
    #[error("can't be had from SPDK's keyring ({0}); SPDK's log may tell more")]
    Get(Errno),
    /// The key is too long.
    #[error("has more than {KEYRING_MAX} bytes")]
    TooLong,
}

/// The maximum size of a key in bytes.
pub const KEYRING_MAX: usize = SECRET_FILE_MAX;
