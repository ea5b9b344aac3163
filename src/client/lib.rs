//! The DST client: SPDK bdevs whose blocks live on DST targets.
//!
//! A [`Client`] lives on the control thread (SPDK's app thread). It has the session's first
//! connection, which carries no I/O: it learns what the device is, registers the bdev, and hears of
//! changes. Each SPDK thread that opens a channel on the bdev has a connection of its own
//! (`channel::Channel`), with a slab of transactions that only this thread touches. What becomes of
//! them while the target is lost is in `channel::outage`, what becomes of the session in `control`.

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
mod waiting;

pub use address::{Family, Place};
pub use attach::Wait;
pub use client::Client;
pub use error::Error;
pub use info::{Activity, BdevState, Info, PathInfo};
pub use news::{News, set_listener};
pub use options::{BdevUuid, Options, Params, Peer};
pub use places::{PathState, TargetPlaces};
pub use registry::{
    accept_device, create, delete, find, first_attempts, list, options, set_options, stop_attaching,
    stop_begins,
};
