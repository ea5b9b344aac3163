//! The client's key, from its file.

use std::path::Path;

use dst_security::{Psk, psk};

/// The key to use: the first one in the file. What is wrong is said with the file's name, and nothing of its content.
pub fn read(path: &str) -> Result<Psk, String> {
    let text =
        spdk::secret_file::read(Path::new(path)).map_err(|error| format!("psk_file: {path} {error}"))?;
    let keys = psk::parse(&text).map_err(|error| format!("psk_file: {path}: {error}"))?;
    Ok(keys.into_iter().next().expect("a key file has a key"))
}
