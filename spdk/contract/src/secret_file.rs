//! Files with secrets: why one is not taken.

use std::io;

use thiserror::Error;

/// Most bytes of such a file.
pub const SECRET_FILE_MAX: usize = 4096;

/// Why a file is not taken. Said so that the file's name can stand in front of it; never a byte of what is in it.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It can't be opened.
    #[error("can't be opened: {0}")]
    Open(io::Error),
    /// It can't be read.
    #[error("can't be read: {0}")]
    Read(io::Error),
    /// It is something else than a file.
    #[error("is {0}, a regular file is wanted")]
    NotAFile(&'static str),
    /// It is too long.
    #[error("has {0} bytes, at most {SECRET_FILE_MAX} are taken")]
    TooLong(u64),
    /// Others may use it.
    #[error(
        "has mode {0:04o}: others than its owner may use it; chmod 600 it, and make another key if they may have read it"
    )]
    OpenToOthers(u32),
    /// Somebody else could change it.
    #[error("belongs to user {owner}, but this process runs as user {user}: chown it to {user} or to root")]
    OtherOwner {
        /// Whose it is.
        owner: u32,
        /// Who this process is.
        user: u32,
    },
}
