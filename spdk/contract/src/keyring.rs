//! SPDK's keyring: why a key is not taken.

use thiserror::Error;

use crate::errno::Errno;
use crate::secret_file::SECRET_FILE_MAX;

/// Why a key is not taken. Said so that its name can stand in front of it; never a byte of it.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// There is no keyring.
    #[error(
        "can't be looked up: SPDK {0} has no keyring, 24.05 is the first that has one; give a psk_file instead"
    )]
    NoKeyring(String),
    /// There is no such key.
    #[error("is not in SPDK's keyring")]
    Missing,
    /// Its keyring does not give it.
    #[error("can't be had from SPDK's keyring ({0}); SPDK's log may tell more")]
    Get(Errno),
    /// It is too long.
    #[error("has more than {KEYRING_MAX} bytes")]
    TooLong,
}

/// Most bytes that are taken of a key.
pub const KEYRING_MAX: usize = SECRET_FILE_MAX;
