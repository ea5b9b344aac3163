//! Why a bdev can't be made or taken away.

use spdk::Errno;
use thiserror::Error;

/// Each says what was wrong, with which value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The name is taken.
    #[error("name: a bdev `{0}` is there already")]
    Exists(String),
    /// No DST bdev of this name.
    #[error("name: there is no DST bdev `{0}`")]
    NotFound(String),
    /// It is being deleted already.
    #[error("name: DST bdev `{0}` is being deleted already")]
    Deleting(String),
    /// It was deleted before it was attached.
    #[error("name: DST bdev `{0}` was deleted before it was attached")]
    Deleted(String),
    /// The target could not be reached in time.
    #[error("attach_timeout_ms: not attached after {ms} ms; last attempt: {last}")]
    Timeout {
        /// How long it was tried.
        ms: u32,
        /// Why the last attempt failed.
        last: String,
    },
    /// The target refused in a way that trying again will not change.
    #[error("export, host: export `{export}`, host `{host}`: {why}")]
    Refused {
        /// The export that was asked for.
        export: String,
        /// Who asked.
        host: String,
        /// What the target said.
        why: String,
    },
    /// SPDK does not take the bdev.
    #[error("name: bdev `{name}` can't be registered: {errno}")]
    Register {
        /// Its name.
        name: String,
        /// What SPDK says.
        errno: Errno,
    },
    /// SPDK does not take a second bdev with the export's UUID.
    #[error(
        "name: bdev `{0}` can't be registered: a bdev with this export's UUID is there already, and this SPDK takes each only once"
    )]
    SameUuid(String),
    /// SPDK could not take the bdev away.
    #[error("name: bdev `{name}` can't be unregistered: {errno}")]
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
    /// The code for the JSON-RPC answer, a negative errno as in SPDK.
    pub fn code(&self) -> i32 {
        const EACCES: i32 = -13;
        const EBUSY: i32 = -16;
        const EEXIST: i32 = -17;
        const ENODEV: i32 = -19;
        const ETIMEDOUT: i32 = -110;
        const ECANCELED: i32 = -125;
        match self {
            Error::Exists(_) | Error::SameUuid(_) => EEXIST,
            Error::NotFound(_) => ENODEV,
            Error::Deleting(_) => EBUSY,
            Error::Deleted(_) => ECANCELED,
            Error::Timeout { .. } => ETIMEDOUT,
            Error::Refused { .. } => EACCES,
            Error::Register { errno, .. }
            | Error::Unregister { errno, .. }
            | Error::Resources { errno, .. } => -errno.0,
        }
    }
}
