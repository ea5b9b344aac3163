//! SPDK's keyring: the world has none.

use thiserror::Error;
use zeroize::Zeroizing;

/// Why a key is not taken.
#[derive(Debug, Error)]
#[error("is not in SPDK's keyring")]
pub struct KeyringError;

/// Reads what the keyring holds under a name.
///
/// # Errors
/// Always.
pub fn read(_name: &str) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    Err(KeyringError)
}
