//! The DST target: exports SPDK bdevs over the network.
//!
//! Two kinds of threads, and messages between them, no locks:
//!
//! - the *control* thread (SPDK's app thread) has [`Target`]: listeners, exports, hosts, sessions. It
//!   decides who gets in.
//! - one *group* thread a core has `group::Group`: the connections that were given to it, for their
//!   whole life, and the pools that their I/O is served from.

#![forbid(unsafe_code)]

mod admission;
mod completion;
mod connection;
mod control;
mod deletion;
mod departure;
mod error;
mod export;
mod exports;
mod frames;
mod gathering;
mod group;
mod listener;
mod members;
mod options;
mod pools;
mod queue;
mod rate;
mod report;
mod room;
mod secure;
mod sessions;
mod share;
mod stage;
mod stats;
mod submission;
mod taking;

pub use control::Target;
pub use error::Error;
pub use export::{ExportInfo, Rules};
pub use listener::ListenAddress;
pub use options::Options;
pub use report::{ConnectionInfo, ConnectionState, SessionInfo, Totals};
pub use stats::Stats;
