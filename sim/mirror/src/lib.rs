//! A simulator for `src/mirror`: owners that crash, stop and are taken over, members that vanish,
//! are slow, fail, and forget their caches. A seed decides everything, and the rules of
//! docs/mirror.md are checked throughout, each under its number there.
//!
//! | module | contents |
//! | --- | --- |
//! | [`plan`] | what a seed decides |
//! | [`disk`] | the medium of a member, with its volatile cache |
//! | [`target`] | a member or the witness: a disk, its owner, and what it is doing |
//! | [`world`] | targets, hosts, and what happens when |
//! | `operations`, `connections` | what happens to operations, and to links, power and ownership |
//! | [`owner`] | a process with the mirror's core, which it drives as the bdev module does |
//! | [`model`] | what each block may hold |
//! | [`checks`] | the rules that concern what members hold |
//! | [`state`] | the state of a run |
//! | `decisions`, `deciding` | whose data count, and what follows from that |
//! | `drive` | processes and their mirrors: what these are told, and what they want done |
//! | `taking` | hosts that take the mirror over, one target after the other |
//! | [`foreground`] | what users notice of copying and of verifications |
//! | `users`, `faults`, `operator`, `membership`, `verification` | what happens to them |
//! | [`run`] | one seed, from its beginning to its end |
//! | [`shrink`] | the search for a smaller plan that still fails |

pub mod checks;
mod connections;
mod deciding;
mod decisions;
pub mod disk;
mod drive;
mod faults;
pub mod foreground;
mod membership;
pub mod model;
mod operations;
mod operator;
pub mod owner;
pub mod plan;
pub mod run;
pub mod shrink;
pub mod state;
mod taking;
pub mod target;
mod users;
mod verification;
pub mod world;

pub use plan::Plan;
pub use run::{Outcome, Totals, Violation, run};
