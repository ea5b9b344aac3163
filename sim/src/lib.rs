//! DST's simulator: clients and targets as users run them, in a world that is out to break them.
//!
//! The crates `src/transport`, `src/client` and `src/dst-target` are compiled here against a
//! simulated SPDK: `sim/spdk`, which has the same name and API as `spdk/safe` and runs in the
//! simulated world of `sim/world`. A seed decides everything: the number of clients and targets and
//! their options ([`plan`]), what the users do ([`users`], on the threads in [`seats`]), and what
//! goes wrong and when ([`faults`]). After each step, the checkers in [`promises`], one for each
//! promise of docs/failures.md, look at what happened. [`model`] keeps what the checkers need to
//! know, and [`contact`] what the clients say about their connections. A seed replays exactly.
//!
//! Mutations show that the checks can find something: `dst_session::mutation` takes one protection
//! away at a time, and `tests/mutations.rs` shows that the simulator notices.

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
pub mod stops;
mod takeovers;
mod until;
pub mod users;

pub use plan::Plan;
pub use run::{Outcome, run};
pub use until::until;
