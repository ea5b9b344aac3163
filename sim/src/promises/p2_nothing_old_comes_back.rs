//! Promise 2, nothing old comes back: once a write has completed or failed, the target hands no
//! copy of it to the backend, and the backend does not execute it over a newer write of the same
//! client.

use spdk::backend::IoStatus;

use crate::model::{Io, Model};

/// A write is handed over or executed too late.
pub const OLD: &str = "2 (nothing old comes back)";

/// Checks a write that is given to a backend.
pub fn handed(seq: u64, write: u64, io: &Io) {
    if let Some((ended, status)) = io.completed.filter(|(ended, _)| *ended < seq) {
        let text = format!("write {write} ended with {status:?} at {ended}, a backend is given it at {seq}");
        world::violation(OLD, text);
    }
}

/// Checks a write of which a backend executes these blocks.
pub fn executed(model: &Model, seq: u64, offset: u64, count: u64, write: u64) {
    let Some(io) = model.io(write) else { return };
    let Some((ended, status)) = io.completed.filter(|(ended, _)| *ended < seq) else { return };
    if count == 0 {
        return;
    }
    if status == IoStatus::Success {
        return world::violation(OLD, format!("write {write} ended at {ended}, it is executed at {seq}"));
    }
    // The write failed while the backend had it. It may be executed late, but not after a newer
    // write. Of one that is executed in parts, only the part that the backend had is executed.
    let newer = model.ios.iter().zip(1..).find(|(other, _)| {
        // DST does not fence other hosts' I/O: see "What is not promised" in docs/failures.md.
        other.succeeded_at().is_some_and(|at| at < seq)
            && other.client == io.client
            && other.modifies()
            && other.store == io.store
            && other.touches(offset, count)
            && other.submitted_at() > ended
    });
    if let Some((_, newer)) = newer {
        let text = format!("write {write} failed at {ended} and is executed at {seq}, after write {newer}");
        world::violation(OLD, text);
    }
}
