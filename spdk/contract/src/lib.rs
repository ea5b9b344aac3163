//! The plain types that `spdk/safe` and the simulator's `sim/spdk` share, and their contracts.
//!
//! Both have the package name `spdk` and re-export these types under the same paths, so that
//! neither can drift from the other. This crate knows neither SPDK nor the simulated world, and has
//! no state.

#![forbid(unsafe_code)]

pub mod bdev;
pub mod disk;
pub mod durable_file;
pub mod errno;
pub mod io;
pub mod keyring;
pub mod log;
pub mod poller;
pub mod secret_file;
pub mod sock;
pub mod trace;
