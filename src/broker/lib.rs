//! The target's decisions: who gets in, what has to be over before, and what ends.
//!
//! A [`Broker`] does no I/O, reads no clock and draws no random numbers. What happens goes in through
//! [`Broker::handle`], what operators ask for through methods that answer at once; what is to be done
//! comes out of [`Broker::poll_output`], after each of them, until there is nothing more. The driver
//! (`src/dst-target`) carries it out in that order.

#![forbid(unsafe_code)]

mod admission;
mod broker;
#[cfg(feature = "model")]
mod canonical;
mod connection;
mod departure;
mod error;
mod export;
mod exports;
mod ids;
mod input;
mod limits;
mod output;
mod removal;
mod report;
mod resets;
mod room;
mod sessions;
mod stats;

#[cfg(test)]
mod tests;

pub use broker::{Adopted, Broker};
pub use connection::{Opening, Proof, Remains};
pub use error::Rejection;
pub use export::{HOSTS_MAX, ResetReach, Rules};
pub use exports::{ExportFacts, KeyQuery};
pub use ids::{ConnectionId, Owner, SessionId};
pub use input::Input;
pub use limits::Limits;
pub use output::{Joining, Lateness, Order, Output, ResetStep, Topic};
pub use report::{Activity, ConnectionInfo, ConnectionState, SessionInfo, Totals};
pub use room::EVICTIONS_MAX;
pub use stats::Stats;
