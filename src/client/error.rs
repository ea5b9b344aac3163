//! Errors of creating and deleting bdevs.

use spdk::Errno;
use thiserror::Error;

/// An error of creating or deleting a bdev. Each error names the value that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// A bdev with this name exists.
    #[error("a bdev named `{0}` already exists")]
    Exists(String),
    /// No DST bdev has this name.
    #[error("there is no DST bdev named `{0}`")]
    NotFound(String),
    /// The bdev's device is the one that it was created for, so there is nothing to accept.
    #[error("DST bdev `{0}` is not `failed`: it has the device that it was created for")]
    NotFailed(String),
    /// The bdev is already being deleted.
    #[error("DST bdev `{0}` is already being deleted")]
    Deleting(String),
    /// The bdev was deleted before it was attached.
    #[error("DST bdev `{0}` was deleted before it was attached")]
    Deleted(String),
    /// The application is being stopped.
    #[error("DST bdev `{0}` is neither attached nor deleted, as the application is being stopped")]
    Stopping(String),
    /// The target could not be reached in time.
    #[error("not attached after {ms} ms; last attempt: {last}")]
    Timeout {
        /// The time for which the client tried, ms.
        ms: u32,
        /// The reason for which the last attempt failed.
        last: String,
    },
    /// The target refused for good.
    #[error("export `{export}`, host `{host}`: {why}")]
    Refused {
        /// The export that was asked for.
        export: String,
        /// The host that asked.
        host: String,
        /// The target's reason.
        why: String,
    },
    /// SPDK could not register the bdev.
    #[error("bdev `{name}` can't be registered: {errno}")]
    Register {
        /// The bdev's name.
        name: String,
        /// SPDK's error.
        errno: Errno,
    },
    /// This SPDK does not register a second bdev with the same UUID.
    #[error(
        "bdev `{0}` can't be registered: a bdev with this export's UUID already exists, and this SPDK takes each only once"
    )]
    SameUuid(String),
    /// The export's UUID, which the bdev was to inherit, belongs to another bdev of the process.
    #[error(
        "bdev `{name}` can't inherit its export's UUID: another bdev of this process has {uuid}; leave out uuid, or \
         remove the other bdev"
    )]
    UuidTaken {
        /// The bdev's name.
        name: String,
        /// The export's UUID.
        uuid: String,
    },
    /// SPDK could not unregister the bdev.
    #[error("bdev `{name}` can't be unregistered: {errno}")]
    Unregister {
        /// The bdev's name.
        name: String,
        /// SPDK's error.
        errno: Errno,
    },
    /// Memory is short.
    #[error("{what}: {errno}")]
    Resources {
        /// The purpose of the memory.
        what: &'static str,
        /// SPDK's error.
        errno: Errno,
    },
}

impl Error {
    /// Returns the errno of the RPC's answer.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Exists(_) | Error::SameUuid(_) | Error::UuidTaken { .. } => Errno::EEXIST,
            Error::NotFound(_) => Errno::ENODEV,
            Error::Deleting(_) => Errno::EBUSY,
            Error::Deleted(_) | Error::Stopping(_) => Errno::ECANCELED,
            Error::NotFailed(_) => Errno::EINVAL,
            Error::Timeout { .. } => Errno::ETIMEDOUT,
            Error::Refused { .. } => Errno::EACCES,
            Error::Register { errno, .. }
            | Error::Unregister { errno, .. }
            | Error::Resources { errno, .. } => *errno,
        }
    }
}
