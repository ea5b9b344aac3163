//! A queue's state for resets. `queue/resets.rs` has the code that uses it.

use std::sync::Arc;

use dst_session::reexecution::{LastReset, Repeats};

use crate::backend_resets::BackendResets;
use crate::completion::Io;

/// A queue's state for resets.
pub struct QueueResets {
    /// The resets of all backends.
    pub backend: Arc<BackendResets>,
    /// The last reset of the backend that this session has asked for.
    pub own: LastReset,
    /// The slots of Resets that are not answered yet.
    pub asked: Vec<u16>,
    /// The number of Resets at the end of `asked` that the control thread was not told of yet.
    pub untold: usize,
    /// The round that waits for the queue, and the requests that were not answered when the round
    /// began.
    pub awaited: Option<(u64, Vec<u64>)>,
    /// I/O that resets for other sessions have ended and that is to be executed again.
    pub ended: Vec<EndedIo>,
    /// How often requests were executed again.
    pub repeats: Repeats,
}

/// An I/O that a reset has ended.
pub struct EndedIo {
    pub io: Io,
    /// The time of the I/O's failure, µs.
    pub at_us: u64,
}

impl QueueResets {
    /// Returns the state of a new queue.
    pub fn new(backend: Arc<BackendResets>) -> QueueResets {
        QueueResets {
            backend,
            own: LastReset::Never,
            asked: Vec::new(),
            untold: 0,
            awaited: None,
            ended: Vec::new(),
            repeats: Repeats::default(),
        }
    }

    /// Adds a Reset, which the control thread is to answer.
    pub fn ask(&mut self, slot: u16) {
        self.asked.push(slot);
        self.untold += 1;
    }
}
