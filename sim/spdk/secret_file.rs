//! Files with secrets: what the test has put there.

use std::io;
use std::path::{Path, PathBuf};

pub use spdk_contract::secret_file::SecretFileError;
use zeroize::Zeroizing;

use crate::world::with;

/// Reads a file that holds a secret.
///
/// # Errors
/// There is none.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let found = with(|w| w.secret_files.get(path).cloned());
    found.map(Zeroizing::new).ok_or_else(|| SecretFileError::Open(io::ErrorKind::NotFound.into()))
}

/// Puts a file there, in place of the one of that name. All processes of the world see it.
pub fn put(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
    let (path, content) = (path.into(), content.into());
    with(|w| w.secret_files.insert(path, content));
}

/// Takes a file away.
pub fn remove(path: &Path) {
    with(|w| w.secret_files.remove(path));
}
