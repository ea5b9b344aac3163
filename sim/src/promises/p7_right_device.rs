//! Promise 7, the right device: what was written to one device never reaches another one.

use crate::model::Io;

/// A write reaches another device.
pub const DEVICE: &str = "7 (the right device)";

/// Checks a write that is given to a store.
pub fn handed(write: u64, io: &Io, store: u32) {
    if io.store != store {
        world::violation(DEVICE, format!("write {write} for store {} is given to store {store}", io.store));
    }
}
