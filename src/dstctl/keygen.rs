//! `dstctl keygen`: creates a key file, as the RPC parameter `psk_file` names it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dst_security::psk::{self, PSK_LEN, Psk};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::cli::KeygenArguments;

/// The reason why no key was created.
#[derive(Debug, Error)]
pub enum KeyError {
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
    #[error(
        "{0} already exists and is not overwritten: choose another name, or remove the file first if its key is no \
         longer in use"
    )]
    Exists(PathBuf),
    #[error("{0} can't be created: {1}; choose an existing folder that you may write to")]
    Create(PathBuf, io::Error),
    #[error("{0} can't be written: {1}; the incomplete file was removed")]
    Write(PathBuf, io::Error),
    #[error("standard output can't be written: {0}; the key was discarded")]
    Print(io::Error),
}

/// Creates a key file, or prints its text.
///
/// # Errors
/// No key was created, and no file is left.
pub fn run(arguments: &KeygenArguments) -> Result<(), KeyError> {
    let text = new_text()?;
    match &arguments.file {
        Some(path) => write_file(path, text.as_bytes())?,
        None => print(text.as_bytes()).map_err(KeyError::Print)?,
    }
    Ok(())
}

/// Returns the text of a file with a new key.
fn new_text() -> Result<Zeroizing<String>, KeyError> {
    let mut bytes = Zeroizing::new([0; PSK_LEN]);
    getrandom::fill(&mut bytes[..]).map_err(KeyError::Random)?;
    Ok(psk::format(&Psk::new(bytes)))
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text)?;
    output.flush()
}

/// Creates the file with all of the text in it and on the disk, or not at all.
fn write_file(path: &Path, text: &[u8]) -> Result<(), KeyError> {
    // The file is private from the first moment on. Whatever already has the name, even a dangling
    // link, stays untouched.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Create(path.to_owned(), error),
    })?;
    fill(file, text).map_err(|error| {
        // Half a key is useless. An error of the removal is ignored, since the failed write is what
        // to report.
        let _ = fs::remove_file(path);
        KeyError::Write(path.to_owned(), error)
    })
}

fn fill(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_another_one_that_can_be_used() {
        let texts = [new_text().unwrap(), new_text().unwrap()];
        assert_ne!(texts[0], texts[1]);
        assert!(texts.iter().all(|text| psk::parse(text.as_bytes()).is_ok_and(|keys| keys.len() == 1)));
    }

    #[test]
    fn a_full_disk_is_noticed() {
        // A device that is always full.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(fill(full, b"text").is_err());
    }
}
