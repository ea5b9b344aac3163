//! Promise 3, at most once: a request that is sent again is executed once, and compare-and-write
//! never takes effect twice.

use spdk::backend::io_kind;
use spdk::bdev_io::IoKind;
use world::store::{Origin, Request};

use crate::model::Io;

/// A request is executed again.
pub const ONCE: &str = "3 (at most once)";

/// A backend is given an operation that nobody asked for.
pub const UNASKED: &str = "3 (at most once: unasked)";

/// Checks an operation without data that is given to a backend.
pub fn asked_for(request: Request, origin: Origin) {
    if origin == Origin::Unasked {
        let Request { action, offset, count, .. } = request;
        world::violation(UNASKED, format!("nobody asked for {:?} of {offset}+{count}", io_kind(action)));
    }
}

/// Checks a write that is given to a backend and was given to one `before` times already.
pub fn handed(write: u64, io: &Io, before: usize) {
    if io.kind == IoKind::CompareAndWrite && before > 0 {
        world::violation(ONCE, format!("compare-and-write {write} is given to a backend again"));
    }
}

/// Checks a compare-and-write that ended with a miscompare.
pub fn miscompared(number: u64, io: &Io) {
    if io.executed.iter().any(|execution| execution.count > 0) {
        world::violation(ONCE, format!("compare-and-write {number} found other blocks, and wrote"));
    }
    if io.executed.is_empty() {
        world::violation(ONCE, format!("compare-and-write {number} found other blocks without looking"));
    }
}
