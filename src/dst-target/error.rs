//! Errors of operators' requests to the target.

use dst_broker::Rejection;
use spdk::Errno;
use thiserror::Error;

/// An error of an operator's request. Each error names the value that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The broker rejects the request.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No bdev has this name.
    #[error("there is no bdev named `{0}`")]
    NoBdev(String),
    /// The bdev can't be opened.
    #[error("bdev `{name}` can't be opened: {errno}")]
    Open {
        /// The bdev's name.
        name: String,
        /// SPDK's error.
        errno: Errno,
    },
    /// Another module of this process has claimed the bdev.
    #[error(
        "bdev `{name}` can't be exported: module `{module}` has it. Delete what that module has made of it \
         first (an lvstore or a raid, for instance), or export that instead"
    )]
    Claimed {
        /// The bdev's name.
        name: String,
        /// The module.
        module: String,
    },
    /// The bdev is open elsewhere in this process.
    #[error(
        "bdev `{name}` can't be exported: it is open elsewhere in this process, or still being examined. An \
         export needs its bdev for itself"
    )]
    InUse {
        /// The bdev's name.
        name: String,
    },
    /// The bdev is of a kind that can't be exported.
    #[error("bdev `{name}` can't be exported: {why}")]
    Unsuitable {
        /// The bdev's name.
        name: String,
        /// The reason.
        why: &'static str,
    },
    /// The listener already exists.
    #[error("a listener on {0} already exists")]
    ListenerExists(String),
    /// There is no such listener.
    #[error("there is no listener on {0}")]
    NoListener(String),
    /// Listening failed.
    #[error("can't listen on {address}: {errno}")]
    Listen {
        /// The address and port.
        address: String,
        /// The system's error.
        errno: Errno,
    },
    /// The options can no longer be changed.
    #[error("this can be set only before the first listener and export are created")]
    OptionsInUse,
    /// The backend does not finish the requests of an export that is being deleted.
    #[error(
        "export `{export}` is not gone yet after {waited_ms} ms: the backend still has {in_flight} I/Os \
         of bdev `{bdev}`, a reset did not help; the deletion goes on, and closes the bdev when they complete"
    )]
    Hangs {
        /// The export.
        export: String,
        /// Its bdev.
        bdev: String,
        /// The number of I/Os that the backend has.
        in_flight: usize,
        /// The time since the deletion began, ms.
        waited_ms: u64,
    },
    /// Another export has the state file.
    #[error("state file `{path}` belongs to export `{export}`; give each export a file of its own")]
    StateFileInUse {
        /// The file's path.
        path: String,
        /// The other export.
        export: String,
    },
    /// A state file can't be written.
    #[error("state file `{path}` can't be written: {why}; nothing has changed")]
    StateFile {
        /// The file's path.
        path: String,
        /// The reason.
        why: String,
    },
    /// There is not enough memory for the buffers of a core.
    #[error("there is not enough memory for {mib} MiB of buffers on core {core}: {errno}")]
    Memory {
        /// The core.
        core: u32,
        /// The size of the buffers, MiB.
        mib: u32,
        /// SPDK's error.
        errno: Errno,
    },
    /// A resource that the target needs, such as a thread or a timer, is not available.
    #[error("{what}: {errno}")]
    Resources {
        /// The resource.
        what: &'static str,
        /// SPDK's error.
        errno: Errno,
    },
}

impl Error {
    /// Returns the errno of the RPC's answer.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Rejected(rejection) => match rejection {
                Rejection::NoExport(_) | Rejection::NoHost { .. } | Rejection::NobodyWaits(_) => {
                    Errno::ENOENT
                }
                Rejection::ExportExists(_) | Rejection::HostExists { .. } => Errno::EEXIST,
                Rejection::ExportBusy(_) | Rejection::OwnershipChanging(_) | Rejection::ResetUnderWay(_) => {
                    Errno::EBUSY
                }
                Rejection::Stopping => Errno::ECANCELED,
                Rejection::NeedsKey { .. } | Rejection::OwnershipNotKept(_) => Errno::EINVAL,
                Rejection::TooManyHosts { .. } => Errno::ENOSPC,
            },
            Error::NoListener(_) => Errno::ENOENT,
            Error::ListenerExists(_) => Errno::EEXIST,
            Error::NoBdev(_) => Errno::ENODEV,
            Error::OptionsInUse | Error::InUse { .. } | Error::StateFileInUse { .. } => Errno::EBUSY,
            Error::StateFile { .. } => Errno::EIO,
            Error::Claimed { .. } => Errno::EPERM,
            Error::Unsuitable { .. } => Errno::EINVAL,
            Error::Hangs { .. } => Errno::ETIMEDOUT,
            Error::Open { errno, .. }
            | Error::Listen { errno, .. }
            | Error::Resources { errno, .. }
            | Error::Memory { errno, .. } => *errno,
        }
    }
}
