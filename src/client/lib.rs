//! The DST client: SPDK bdevs whose blocks live on DST targets.
//!
//! A [`Client`] lives on the control thread (SPDK's app thread). It has the control connection,
//! which carries no I/O: on it the client learns what the device is, so that it can register the
//! bdev, and is told of changes. Each SPDK thread that opens a channel on the bdev has a connection
//! of its own (`channel::Channel`), with a slab of transactions that only this thread touches.
//! While the target is lost, `channel::outage` handles the transactions, and `control` handles the
//! session.

#![forbid(unsafe_code)]

mod address;
mod answers;
mod attach;
mod channel;
mod channel_io;
mod channels;
mod client;
mod connection;
mod control;
mod counters;
mod disk;
mod error;
mod handshake;
mod holding;
mod info;
mod link;
mod log;
mod membership;
mod message;
mod news;
mod options;
mod places;
mod probe;
mod race;
mod registry;
mod reset;
mod shared;
mod traces;
mod waiting;

pub use address::{Family, Place};
pub use attach::Wait;
pub use client::Client;
pub use error::Error;
pub use holding::{Holding, Newest};
pub use info::{BdevActivity, BdevState, Info, PathInfo};
pub use news::{News, set_listener};
pub use options::{BdevParams, BdevUuid, Options, TargetParams};
pub use places::{PathState, TargetPlaces};
pub use registry::{
    accept_device, create, delete, find, first_attempts, list, options, set_options, stop_attaching,
    stop_begins,
};
