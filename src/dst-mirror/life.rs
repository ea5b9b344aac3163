//! The stages of a mirror's life.

use spdk::bdev_module::Registered;

use crate::disk::MirrorDisk;
use crate::error::Error;

/// Takes the answer to an RPC that made the mirror.
pub type Answer = Box<dyn FnOnce(Result<String, Error>)>;

/// Called when nothing of a mirror is left.
pub type Done = Box<dyn FnOnce()>;

/// A mirror's life.
pub enum Life {
    /// The mirror is created, or waits for its devices.
    Starting {
        /// The callback for the caller that waits for the start, and until when, in µs.
        waiting: Option<(Answer, u64)>,
    },
    /// The mirror has a bdev.
    Running(Registered<MirrorDisk>),
    /// SPDK ends the bdev, and waits for its users.
    Unregistering,
    /// The mirror could not be assembled or registered, and stays to be looked at.
    Ended {
        /// The reason.
        why: String,
    },
    /// The rules write what is left to be written.
    Stopping(Done),
    /// The devices are closed.
    Closing {
        /// The time until which they have to be closed, in µs.
        until_us: u64,
        /// The callback for the caller that waits for it.
        done: Done,
    },
    /// Nothing is left.
    Gone,
}

impl Life {
    /// Returns whether the mirror's end has begun.
    pub fn is_over(&self) -> bool {
        matches!(self, Life::Unregistering | Life::Stopping(_) | Life::Closing { .. } | Life::Gone)
    }

    /// Returns whether nobody waits for the mirror, neither for its beginning nor for its end.
    pub fn is_settled(&self) -> bool {
        matches!(self, Life::Starting { waiting: None } | Life::Running(_) | Life::Ended { .. })
    }
}
