//! DST's simulator: clients and targets as users run them, in a world that is out to break them.
//!
//! The crates `src/transport`, `src/client` and `src/dst-target` are compiled here against a simulated SPDK
//! (`sim/spdk`, which has the same name and API). A seed decides everything: how many clients and targets there
//! are, what they are set to ([`plan`]), what the users do ([`users`]), and what goes wrong when ([`faults`]).
//! After each step [`model`] checks what must hold, the promises of docs/failures.md, by their numbers there. A seed replays
//! exactly.
//!
//! That the checks can find something is shown by mutations: `dst_session::mutation` takes one protection
//! away at a time, and `tests/mutations.rs` has the simulator find out.

pub mod faults;
pub mod fleet;
pub mod model;
pub mod plan;
pub mod run;
pub mod shrink;
pub mod users;

pub use plan::Plan;
pub use run::{Outcome, run};
