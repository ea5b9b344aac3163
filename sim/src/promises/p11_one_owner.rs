//! Promise 11, one owner at a time: once the backend has been given a write of a new owner, it has
//! nothing of a former one, and is given nothing of one any more.
//!
//! Random plans have shared exports only. The worlds in which exports are owned are those of
//! `sim/tests/takeover.rs` and of the model checker.

use std::collections::BTreeSet;

use world::store::{Fact, Origin};

/// A former owner's write comes beside or after one of its successor.
pub const OWNER: &str = "11 (one owner at a time)";

/// The writes of one client have numbers from a multiple of this on, so that a write's number tells
/// whose it is.
pub const WRITES_OF_ONE: u64 = 1 << 32;

/// The clients that have owned the export, by what the backend was given.
#[derive(Debug, Default)]
pub struct Reigns {
    /// The clients, in the order in which they came.
    order: Vec<usize>,
    /// The writes that the backend has.
    in_backend: BTreeSet<u64>,
}

impl Reigns {
    /// Returns how many clients have owned the export so far.
    pub fn owners(&self) -> usize {
        self.order.len()
    }

    /// Notes that the backend has died, with everything that it had.
    pub fn backend_died(&mut self) {
        self.in_backend.clear();
    }

    /// Notes that the backend was given a write, or has executed one. Returns what breaks the
    /// promise.
    pub fn note(&mut self, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Handed { origin: Origin::Write(write), .. } => {
                let client = (write / WRITES_OF_ONE) as usize;
                if self.order.last() != Some(&client) {
                    if self.order.contains(&client) {
                        return Some(format!("{OWNER}: client {client} writes again after {:?}", self.order));
                    }
                    if let Some(other) = self.in_backend.first() {
                        return Some(format!(
                            "{OWNER}: client {client} writes beside write {other} of another"
                        ));
                    }
                    self.order.push(client);
                }
                self.in_backend.insert(write);
            }
            Fact::Executed { write, .. } => drop(self.in_backend.remove(&write)),
            _ => {}
        }
        None
    }
}
