//! The DST target: exports SPDK bdevs over the network.
//!
//! Two kinds of threads, and messages between them (`messages.rs`), no locks:
//!
//! - the *control* thread (SPDK's app thread) has [`Target`]: listeners, and the exports' bdevs. It
//!   drives [`dst_broker::Broker`], which decides who gets in.
//! - one *group* thread a core has `group::Group`: the connections that were given to it, for their
//!   whole life, and the pools that their I/O is served from.

#![forbid(unsafe_code)]

mod backend_resets;
mod backing;
mod completion;
mod connection;
mod control;
mod draining;
mod error;
mod export;
mod exports;
mod frames;
mod gathering;
mod group;
mod groups;
mod holding;
mod holds;
mod keys;
mod listener;
mod listeners;
mod members;
mod messages;
mod options;
mod pools;
mod questions;
mod queue;
mod queue_resets;
mod rate;
mod receive_buffer;
mod report;
mod resets;
mod retry;
mod secure;
mod send_progress;
mod share;
mod stage;
mod state_file;
mod submission;
mod threads;
mod traces;
mod waiting;

pub use control::Target;
pub use dst_broker::{
    ConnectionInfo, ConnectionState, HOSTS_MAX, Known, OwnershipState, Rejection, ResetReach, Rules,
    SessionInfo, Stats, Totals, utc,
};
pub use error::Error;
pub use export::ExportInfo;
pub use listener::{ListenAddress, ListenerInfo};
pub use options::Options;
pub use report::ExportNow;
