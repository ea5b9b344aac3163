//! What `spdk/safe` and the simulator's `sim/spdk` have in common: plain types and their promises.
//!
//! Both have the package name `spdk` and show what is in here under the same paths, so that neither can drift from the
//! other. Nothing in here knows SPDK or the simulated world, and nothing has state.

#![forbid(unsafe_code)]

pub mod bdev;
pub mod disk;
pub mod errno;
pub mod io;
pub mod keyring;
pub mod log;
pub mod poller;
pub mod secret_file;
pub mod sock;
