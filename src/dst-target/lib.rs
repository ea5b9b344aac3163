//! The DST target: exports SPDK bdevs over the network.
//!
//! There are two kinds of threads, which exchange messages (`messages.rs`) and use no locks:
//!
//! - The *control* thread (SPDK's app thread) has the [`Target`]: listeners and the exports' bdevs.
//!   It drives the [`dst_broker::Broker`], which decides about connections, sessions and exports.
//! - One *group* thread on each core has a `group::Group`: connections, each for its whole life,
//!   and the pools from which their I/O is served.

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
mod listen_retry;
mod listener;
mod listeners;
mod log_limit;
mod members;
mod messages;
mod note_file;
mod options;
mod pools;
mod questions;
mod queue;
mod queue_resets;
mod receive_buffer;
mod report;
mod resets;
mod secure;
mod send_progress;
mod share;
mod stage;
mod state_file;
mod stop;
mod stop_note;
mod stopping;
mod submission;
mod threads;
mod traces;
mod waiting;

pub use control::Target;
pub use dst_broker::{
    ConnectionInfo, ConnectionState, HOSTS_MAX, KnownOwnership, OwnershipState, Rejection, ResetReach, Rules,
    SessionInfo, Stats, Totals, utc,
};
pub use error::Error;
pub use export::ExportInfo;
pub use listener::{ListenAddress, ListenerInfo};
pub use options::Options;
pub use report::ExportNow;
