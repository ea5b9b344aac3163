//! Promise 11, one owner at a time: once the backend has been given a write of a new owner, it has
//! nothing of a former one, and is given nothing of one any more.

use std::collections::BTreeSet;

use world::store::{Fact, Origin};

/// A former owner's write comes beside or after one of its successor.
pub const OWNER: &str = "11 (one owner at a time)";

/// The owners that the export has had, by what the backend was given. An owner is known by a number
/// that no other one has.
#[derive(Debug, Default)]
pub struct Reigns {
    /// The owners, in the order in which they came.
    order: Vec<u64>,
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

    /// Notes that the backend was given a write, or has executed one. `owner_of` tells whose a write
    /// is. Returns what breaks the promise.
    pub fn note(&mut self, fact: &Fact, owner_of: impl Fn(u64) -> Option<u64>) -> Option<String> {
        match *fact {
            Fact::Handed { origin: Origin::Write(write), .. } => {
                let owner = owner_of(write)?;
                if self.order.last() != Some(&owner) {
                    if self.order.contains(&owner) {
                        return Some(format!("owner {owner} writes again after {:?}", self.order));
                    }
                    if let Some(other) = self.in_backend.first() {
                        return Some(format!("owner {owner} writes beside write {other} of another"));
                    }
                    self.order.push(owner);
                }
                self.in_backend.insert(write);
            }
            Fact::Executed { write, .. } => drop(self.in_backend.remove(&write)),
            _ => {}
        }
        None
    }
}
