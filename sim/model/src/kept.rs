//! The stored ownership of the export, which outlives target processes.

use dst_broker::ReadOwnership;
use dst_wire::Ownership;

/// The content of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kept {
    /// This ownership.
    Ownership(Ownership),
    /// Nothing, because the content was lost.
    Nothing,
}

/// A change of the ownership that a target process is storing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Storing {
    /// The new ownership is not durable yet, and may never be.
    Writing(Ownership),
    /// The change is durable, but control does not know yet.
    Written,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept::Ownership(Ownership::Free { last: 0 })
    }
}

impl Kept {
    /// Returns what a target process reads when it starts.
    pub fn read(&self) -> ReadOwnership {
        match self {
            Kept::Ownership(ownership) => Ok(ownership.clone()),
            Kept::Nothing => Err("it is missing".to_owned()),
        }
    }

    /// Loses the content.
    pub fn lose(&mut self) {
        *self = Kept::Nothing;
    }
}
