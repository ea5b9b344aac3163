//! Model-checks the target's broker together with the client's rules.
//!
//! The broker is the real one, and so are the target's record of answers, both ends of the lease,
//! the client's slab and fence, and the checks of Requests, Hellos and Welcomes. Around them is a
//! small model of what drives them: connections with frames on their way, a group that executes,
//! users, and a backend. A model checker (stateright) visits every state that a world can reach.

mod action;
mod channel;
mod check;
mod client;
mod control;
mod group;
mod keeping;
mod kept;
mod ledger;
mod model;
mod possible;
mod state;
mod target;
mod walk;
mod wire;
mod world;
mod worlds;

pub use action::Action;
pub use check::{Found, Search, check};
pub use ledger::Violation;
pub use model::Checked;
pub use world::{Faults, Losable, Owners, Threads, World};
pub use worlds::{large, small};
