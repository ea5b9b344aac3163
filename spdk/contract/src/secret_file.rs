//! The errors of reading a file with secrets.

use std::io;

use thiserror::Error;

/// The maximum size of such a file in bytes.
pub const SECRET_FILE_MAX: usize = 4096;

/// The reason why a file could not be read. The text continues a sentence that begins with the
/// file's name, and contains nothing of the file's content.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// The file cannot be opened.
    #[error("can't be opened: {0}")]
    Open(io::Error),
    /// The file cannot be read.
    #[error("can't be read: {0}")]
    Read(io::Error),
    /// The name is not that of a regular file.
    #[error("is {0}, a regular file is wanted")]
    NotAFile(&'static str),
    /// The file is too long.
    #[error("has {0} bytes, at most {SECRET_FILE_MAX} are taken")]
    TooLong(u64),
    /// Other users may access the file.
    #[error(
        "has mode {0:04o}: others than its owner may use it; chmod 600 it, and make another key if they may have read it"
    )]
    OpenToOthers(u32),
    /// Another user owns the file and could change it.
    #[error("belongs to user {owner}, but this process runs as user {user}: chown it to {user} or to root")]
    OtherOwner {
        /// The owner of the file.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
}
