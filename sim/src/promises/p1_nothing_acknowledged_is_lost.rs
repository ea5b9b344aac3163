//! Promise 1, nothing acknowledged is lost: a write that completed with success is in the target's
//! backend, as the user wrote it.

use spdk::backend::io_kind;
use spdk::bdev_io::IoKind;
use world::store::{Origin, Request};

use crate::model::{Io, Model};

/// A write that was acknowledged is in no backend.
pub const LOST: &str = "1 (nothing acknowledged is lost)";

/// A backend is given something other than what was written.
pub const DATA: &str = "1 (nothing acknowledged is lost: data)";

/// Checks a write that completed with success.
pub fn acknowledged(number: u64, io: &Io) {
    if !io.is_executed() {
        world::violation(LOST, format!("write {number} is acknowledged, it is in no backend"));
    }
}

/// Checks a write that is given to a backend. Returns whether a user made it exactly like that.
pub fn is_the_users(model: &Model, request: Request, origin: Origin) -> bool {
    let Request { action, offset, count, .. } = request;
    let broken = match (origin, model.io(origin.write())) {
        // Promise 3 covers operations without a user's I/O.
        (Origin::Nothing | Origin::Unasked, _) => return false,
        (Origin::Mixed, _) => format!("what is written to {offset}+{count} is not one write's data"),
        (Origin::Write(write), None) => format!("a backend is given write {write}, which nobody made"),
        (Origin::Write(write), Some(io)) => {
            let kind = io_kind(action);
            let goes_in_parts = matches!(kind, IoKind::Unmap | IoKind::WriteZeroes);
            let is_inside = offset >= io.offset && offset + count <= io.offset + io.count;
            let is_it = (io.offset, io.count) == (offset, count) || goes_in_parts && is_inside;
            if io.kind == kind && is_it {
                return true;
            }
            format!(
                "write {write} is {:?} {}+{}, not {kind:?} {offset}+{count}",
                io.kind, io.offset, io.count
            )
        }
    };
    world::violation(DATA, broken);
    false
}
