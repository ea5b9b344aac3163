//! What a queue keeps of resets; `queue/resets.rs` says what it does with that.

use std::sync::Arc;

use dst_session::reexecution::{LastReset, Repeats};

use crate::backend_resets::BackendResets;
use crate::completion::Io;

/// What a queue knows of resets.
pub struct QueueResets {
    pub backend: Arc<BackendResets>,
    /// The last reset of the backend that the session asked for.
    pub own: LastReset,
    /// The slots of Resets that are not answered yet. The last `untold` the control thread has not heard of.
    pub asked: Vec<u16>,
    pub untold: usize,
    /// The round that waits for the queue, and the requests that were not answered when it began.
    pub awaited: Option<(u64, Vec<u64>)>,
    /// What other sessions' resets have ended, to be executed again.
    pub ended: Vec<Ended>,
    pub repeats: Repeats,
}

/// An I/O that a reset has ended.
pub struct Ended {
    pub io: Io,
    pub at_us: u64,
}

impl QueueResets {
    /// Returns what a new queue knows: nothing yet.
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

    /// A Reset has come.
    pub fn ask(&mut self, slot: u16) {
        self.asked.push(slot);
        self.untold += 1;
    }
}
