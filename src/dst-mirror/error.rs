//! Why a mirror can't be had.

use spdk::Errno;
use thiserror::Error;

/// Each says what was wrong, with which value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The name is taken.
    #[error("a bdev or mirror named `{0}` already exists")]
    Exists(String),
    /// There is no such mirror.
    #[error("there is no mirror named `{0}`")]
    NotFound(String),
    /// The mirror is being deleted.
    #[error("mirror `{0}` is already being deleted")]
    Deleting(String),
    /// The mirror was deleted before it could be used.
    #[error("mirror `{0}` was deleted before it could be used")]
    Deleted(String),
    /// The application stops.
    #[error("mirror `{0}`: the application is stopping")]
    Stopping(String),
    /// No bdev of this name or UUID.
    #[error("there is no bdev with the name or UUID `{0}`")]
    NoBdev(String),
    /// The bdev can't be opened.
    #[error("bdev `{name}` can't be opened: {errno}")]
    Open {
        /// Its name.
        name: String,
        /// What SPDK says.
        errno: Errno,
    },
    /// Another module of this process has the bdev.
    #[error(
        "bdev `{name}` can't be used for a mirror: module `{module}` has it. Delete what that module has made \
         of it first (an lvstore, a raid or an export, for instance), or use that instead"
    )]
    Claimed {
        /// Its name.
        name: String,
        /// The module.
        module: String,
    },
    /// Somebody else has the bdev open.
    #[error(
        "bdev `{name}` can't be used for a mirror: this process uses it otherwise, or still examines it. A \
         mirror is the only one to use its devices"
    )]
    InUse {
        /// Its name.
        name: String,
    },
    /// The bdev is of a kind that can't be used.
    #[error("bdev `{name}` can't be used for a mirror: {why}")]
    Unsuitable {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Another change of the members or the witness is going on.
    #[error("mirror `{0}`: another change of its devices is going on: try again when that call is answered")]
    Changing(String),
    /// The mirror has no such member.
    #[error("mirror `{name}` has no member with the device, name or id `{member}`")]
    NoMember {
        /// The mirror's name.
        name: String,
        /// What the operator named it by.
        member: String,
    },
    /// A member or the witness could not be added or removed.
    #[error("mirror `{name}`: {why}")]
    Change {
        /// The mirror's name.
        name: String,
        /// The reason, and what to do.
        why: String,
    },
    /// The members can't be compared.
    #[error("mirror `{name}`: {why}")]
    Verification {
        /// The mirror's name.
        name: String,
        /// The reason, and what to do.
        why: &'static str,
    },
    /// A search is going on.
    #[error("another search for members is going on: try again when that call is answered")]
    Searching,
    /// The mirror could not be created or assembled.
    #[error("mirror `{name}`: {why}")]
    Ended {
        /// Its name.
        name: String,
        /// The reason, and what to do.
        why: String,
    },
    /// Another host was faster to take the mirror over, or one of its devices can't be taken over.
    #[error(
        "mirror `{name}` is not taken over: another host was faster to take `{device}`, or bdev `{device}` has \
         failed or was created without `exclusive` (bdev_dst_get_info shows it). The bdevs that were taken over \
         for the mirror are deleted: see which host has it before you create them again"
    )]
    NotTaken {
        /// The mirror's name.
        name: String,
        /// The device that decided it, as the operator named it.
        device: String,
    },
    /// The mirror could not be assembled in time.
    #[error("mirror `{name}` is not assembled after {waited_ms} ms: {why}")]
    Timeout {
        /// Its name.
        name: String,
        /// How long it had time, ms.
        waited_ms: u32,
        /// What it waits for.
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
    /// SPDK does not remove the bdev.
    #[error("bdev `{name}` can't be removed: {errno}")]
    Unregister {
        /// Its name.
        name: String,
        /// What SPDK says.
        errno: Errno,
    },
    /// The mirror was deleted, and not all of its metadata were overwritten.
    #[error(
        "mirror `{name}` is deleted, but the metadata are still on: {devices}. To overwrite them, assemble the \
         mirror again when all its devices are there, and delete it once more"
    )]
    NotWiped {
        /// Its name.
        name: String,
        /// The devices, as the operator named them.
        devices: String,
    },
    /// Something is short.
    #[error("{what}: {errno}")]
    Resources {
        /// What is short.
        what: &'static str,
        /// What SPDK says.
        errno: Errno,
    },
}

impl Error {
    /// Returns the errno for RPCs.
    pub fn errno(&self) -> Errno {
        match self {
            Error::Exists(_) => Errno::EEXIST,
            Error::NotFound(_) | Error::NoBdev(_) | Error::NoMember { .. } => Errno::ENODEV,
            Error::Changing(_) | Error::Deleting(_) | Error::InUse { .. } => Errno::EBUSY,
            Error::Claimed { .. } => Errno::EPERM,
            Error::Unsuitable { .. } | Error::Ended { .. } | Error::Change { .. } => Errno::EINVAL,
            Error::Verification { .. } | Error::Searching => Errno::EBUSY,
            Error::Deleted(_) | Error::Stopping(_) | Error::NotTaken { .. } => Errno::ECANCELED,
            Error::NotWiped { .. } => Errno::EIO,
            Error::Timeout { .. } => Errno::ETIMEDOUT,
            Error::Open { errno, .. }
            | Error::Register { errno, .. }
            | Error::Unregister { errno, .. }
            | Error::Resources { errno, .. } => *errno,
        }
    }
}
