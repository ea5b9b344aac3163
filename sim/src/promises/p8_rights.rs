//! Promise 8, nobody in without a right: a host that may only read cannot write.
//!
//! Who is admitted at all is checked by the tests of `dst_session::access` and by
//! tests/test_access.py, test_refusals.py and test_flood.py.

use crate::model::{ClientFacts, Io};

/// A host does what it has no right to.
pub const RIGHTS: &str = "8 (nobody in without a right)";

/// Checks a write of a client that a backend is given.
pub fn handed(write: u64, io: &Io, client: &ClientFacts) {
    if io.read_only || client.restricted {
        world::violation(RIGHTS, format!("write {write} is of a host that may only read"));
    }
}
