//! Why the target can't do what an operator asked for.

use spdk::Errno;
use thiserror::Error;

/// Each says what was wrong, with which value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// No export of this name.
    #[error("export: there is none named `{0}`")]
    NoExport(String),
    /// An export of this name is there already.
    #[error("name: an export `{0}` is there already")]
    ExportExists(String),
    /// The export is being deleted.
    #[error("name: export `{0}` is being deleted already")]
    ExportBusy(String),
    /// No bdev of this name.
    #[error("bdev_name: there is no bdev `{0}`")]
    NoBdev(String),
    /// The bdev can't be opened.
    #[error("bdev_name: bdev `{name}` can't be opened: {errno}")]
    Open {
        /// Its name.
        name: String,
        /// What SPDK says.
        errno: Errno,
    },
    /// Another module of this process has the bdev.
    #[error(
        "bdev_name: bdev `{name}` can't be exported: module `{module}` has it. Delete what that module has made of it \
         first (an lvstore or a raid, for instance), or export that instead"
    )]
    Claimed {
        /// Its name.
        name: String,
        /// The module.
        module: String,
    },
    /// Somebody else has the bdev open.
    #[error(
        "bdev_name: bdev `{name}` can't be exported: this process uses it otherwise, or still examines it. An export is \
         the only one to use its bdev"
    )]
    InUse {
        /// Its name.
        name: String,
    },
    /// The bdev is of a kind that can't be exported.
    #[error("bdev_name: bdev `{name}` can't be exported: {why}")]
    Unsuitable {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The host has an entry at this export already.
    #[error("host: export `{export}` has an entry for host `{host}` already")]
    HostExists {
        /// The export.
        export: String,
        /// The host.
        host: String,
    },
    /// The host would attach without a key.
    #[error(
        "host: export `{export}` demands a cipher, so host `{host}` needs a key: give it a psk_file or a psk"
    )]
    NeedsKey {
        /// The export.
        export: String,
        /// The host.
        host: String,
    },
    /// The export has as many hosts as it may have.
    #[error(
        "host: export `{export}` has {max} hosts already, more are not possible; remove some \
         (dst_export_remove_host), or let many in with one entry, `*`"
    )]
    TooManyHosts {
        /// The export.
        export: String,
        /// The limit.
        max: usize,
    },
    /// The host has no entry at this export.
    #[error("host: export `{export}` has no entry for host `{host}`")]
    NoHost {
        /// The export.
        export: String,
        /// The host.
        host: String,
    },
    /// The listener is there already.
    #[error("traddr, trsvcid: a listener on {0} is there already")]
    ListenerExists(String),
    /// No such listener.
    #[error("traddr, trsvcid: there is no listener on {0}")]
    NoListener(String),
    /// Listening failed.
    #[error("traddr, trsvcid: can't listen on {address}: {errno}")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        errno: Errno,
    },
    /// Too late to change these.
    #[error("options can be set only before the first listener and export are created")]
    OptionsInUse,
    /// The backend does not give back what it has of an export that is being deleted.
    #[error(
        "name: export `{export}` is not gone yet after {waited_ms} ms: the backend still has {in_flight} I/Os \
         of bdev `{bdev}`, a reset did not help; the deletion goes on, and closes the bdev when they come back"
    )]
    Hangs {
        /// The export.
        export: String,
        /// Its bdev.
        bdev: String,
        /// I/Os that the backend has.
        in_flight: usize,
        /// Since the deletion began, ms.
        waited_ms: u64,
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
        const EPERM: i32 = -1;
        const ENOENT: i32 = -2;
        const ENOMEM: i32 = -12;
        const EBUSY: i32 = -16;
        const EEXIST: i32 = -17;
        const ENODEV: i32 = -19;
        const EINVAL: i32 = -22;
        const ENOSPC: i32 = -28;
        const ETIMEDOUT: i32 = -110;
        match self {
            Error::NoExport(_) | Error::NoHost { .. } | Error::NoListener(_) => ENOENT,
            Error::ExportExists(_) | Error::HostExists { .. } | Error::ListenerExists(_) => EEXIST,
            Error::NoBdev(_) => ENODEV,
            Error::ExportBusy(_) | Error::OptionsInUse | Error::InUse { .. } => EBUSY,
            Error::Claimed { .. } => EPERM,
            Error::Unsuitable { .. } | Error::NeedsKey { .. } => EINVAL,
            Error::TooManyHosts { .. } => ENOSPC,
            Error::Open { errno, .. } | Error::Listen { errno, .. } => -errno.0,
            Error::Hangs { .. } => ETIMEDOUT,
            Error::Resources { .. } => ENOMEM,
        }
    }
}
