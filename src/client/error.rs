//! Why a bdev can't be made or taken away.

use spdk::Errno;
use thiserror::Error;

/// Each says what was wrong, with which value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The name is taken.
    #[error("a bdev named `{0}` already exists")]
    Exists(String),
    /// No DST bdev of this name.
    #[error("there is no DST bdev named `{0}`")]
    NotFound(String),
    /// It is being deleted already.
    #[error("DST bdev `{0}` is already being deleted")]
    Deleting(String),
    /// It was deleted before it was attached.
    #[error("DST bdev `{0}` was deleted before it was attached")]
    Deleted(String),
    /// The target could not be reached in time.
    #[error("not attached after {ms} ms; last attempt: {last}")]
    Timeout {
        /// How long it was tried.
        ms: u32,
        /// Why the last attempt failed.
        last: String,
    },
    /// The target refused in a way that trying again will not change.
    #[error("export `{export}`, host `{host}`: {why}")]
    Refused {
        /// The export that was asked for.
        export: String,
        /// Who asked.
        host: String,
        /// What the target said.
        why: String,
    },
    /// SPDK does not take the bdev.
    #[error("bdev `{name}` can't be registered: {errno}")]
    Register {
        /// Its name.
        name: String,
        /// What SPDK says.
        errno: Errno,
    },
    /// SPDK does not take a second bdev with the export's UUID.
    #[error(
        "bdev `{0}` can't be registered: a bdev with this export's UUID already exists, and this SPDK takes each only once"
    )]
    SameUuid(String),
    /// SPDK could not take the bdev away.
    #[error("bdev `{name}` can't be unregistered: {errno}")]
    Unregister {
        /// Its name.
        name: String,
        /// What SPDK says.
        errno: Errno,
    },
    /// Memory is short.
    #[error("{what}: {errno}")]
    Resources {
        /// For what.
        what: &'static str,
        /// What SPDK says.
        errno: Errno,
    },
}

impl Error {
    /// Returns the errno that says the same to a program.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Exists(_) | Error::SameUuid(_) => Errno::EEXIST,
            Error::NotFound(_) => Errno::ENODEV,
            Error::Deleting(_) => Errno::EBUSY,
            Error::Deleted(_) => Errno::ECANCELED,
            Error::Timeout { .. } => Errno::ETIMEDOUT,
            Error::Refused { .. } => Errno::EACCES,
            Error::Register { errno, .. }
            | Error::Unregister { errno, .. }
            | Error::Resources { errno, .. } => *errno,
        }
    }
}
