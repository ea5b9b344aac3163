//! DST's simulator: clients and targets as users run them, in a world that is out to break them.
//!
//! The crates `src/transport`, `src/client` and `src/dst-target` are compiled here against a
//! simulated SPDK: `sim/spdk`, which has the same name and API, in the simulated world of
//! `sim/world`. A seed decides everything: how many clients and targets there are, what they are
//! set to ([`plan`]), what the users do ([`users`], on the threads in [`seats`]), and what goes
//! wrong when ([`faults`]). After each step the checkers in [`promises`], one for each promise of
//! docs/failures.md, look at what happened; [`model`] keeps what they have to know, [`contact`] what
//! clients say of their connections. A seed replays
//! exactly.
//!
//! That the checks can find something is shown by mutations: `dst_session::mutation` takes one
//! protection away at a time, and `tests/mutations.rs` has the simulator find out.

pub mod contact;
pub mod faults;
pub mod fleet;
pub mod frames;
pub mod model;
pub mod plan;
pub mod promises;
pub mod run;
mod seats;
pub mod shrink;
pub mod users;

pub use plan::Plan;
pub use run::{Outcome, run};
