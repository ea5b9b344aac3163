//! The target's decisions: which connections are admitted, what must have ended before that, and
//! which sessions end.
//!
//! A [`Broker`] does no I/O, reads no clock and draws no random numbers. Events go in through
//! [`Broker::handle`]. Operators' requests are methods, which answer at once. After each call, the
//! driver (`src/dst-target`) takes the broker's decisions from [`Broker::poll_output`] until it
//! returns `None`, and carries them out in that order.

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
pub mod kept;
mod limits;
mod output;
mod ownership;
mod removal;
mod report;
mod reset_rounds;
mod resets;
mod rights;
mod room;
mod sessions;
mod stats;
pub mod stop_note;
mod takeover;
mod utc;
mod waiting;

#[cfg(test)]
mod tests;

pub use broker::{Adopted, Broker};
pub use connection::{Opening, PreviousProcess, Proof, Remains};
pub use error::Rejection;
pub use export::{HOSTS_MAX, ResetReach, Rules};
pub use exports::{ExportFacts, KeyQuery};
pub use ids::{ClientId, ConnectionId, SessionId};
pub use input::Input;
pub use limits::Limits;
pub use output::{Joining, Lateness, Order, Output, ResetStep, Topic};
pub use ownership::{KnownOwnership, OwnershipChange, OwnershipState, ReadOwnership};
pub use report::{
    Activities, ConnectionActivity, ConnectionInfo, ConnectionState, ExportActivity, Reported, SessionInfo,
    Totals,
};
pub use room::EVICTIONS_MAX;
pub use stats::Stats;
pub use utc::utc;
