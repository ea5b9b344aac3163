//! Promise 8, nobody in without a right: a host that may only read cannot write.
//!
//! The tests of `dst_session::access`, and tests/test_access.py, test_refusals.py and test_flood.py
//! check who is admitted at all.

use crate::model::{ClientFacts, Io};

/// A host does what its access does not allow.
pub const RIGHTS: &str = "8 (nobody in without a right)";

/// Checks a client's write that is given to a backend.
pub fn handed(write: u64, io: &Io, client: &ClientFacts) {
    if io.read_only || client.restricted {
        world::violation(RIGHTS, format!("write {write} is of a host that may only read"));
    }
}
