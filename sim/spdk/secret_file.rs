//! Files with secrets, which the test has created.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use spdk_contract::secret_file::SecretFileError;
use world::slots::Slot;
use world::with;
use zeroize::Zeroizing;

#[derive(Default)]
struct SecretFiles(BTreeMap<PathBuf, Vec<u8>>);

impl Slot for SecretFiles {}

/// Reads a file that holds a secret.
///
/// # Errors
///
/// The file does not exist.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let found = with(|w| w.slots.get::<SecretFiles>().0.get(path).cloned());
    found.map(Zeroizing::new).ok_or_else(|| SecretFileError::Open(io::ErrorKind::NotFound.into()))
}

/// Creates or replaces a file. All processes of the world see it.
pub fn put(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
    let (path, content) = (path.into(), content.into());
    with(|w| w.slots.get::<SecretFiles>().0.insert(path, content));
}

/// Removes a file.
pub fn remove(path: &Path) {
    with(|w| w.slots.get::<SecretFiles>().0.remove(path));
}
