//! The replacement of a small file's content.

use std::io;

use thiserror::Error;

/// Why a file's content was not durably replaced.
#[derive(Debug, Error)]
pub enum NotReplaced {
    /// The content is the old one.
    #[error("{0}")]
    Unchanged(#[source] io::Error),
    /// The file has the new content, but its folder could not be synced: after a crash of the
    /// machine the content may be the old one.
    #[error("it was replaced, but its folder can't be synced: {0}")]
    InDoubt(#[source] io::Error),
}
