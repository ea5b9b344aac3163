//! Safe wrappers for the parts of SPDK that DST uses. All `unsafe` code, all raw pointers and
//! everything that depends on the version of SPDK are in this crate and in `spdk-sys`.
//!
//! Unless stated otherwise, an object belongs to the SPDK thread on which it was created, and is
//! not `Send`. A function marked HOT is for the I/O path: it allocates nothing, takes no lock and
//! writes no log.
//!
//! Callbacks from C are `extern "C"` functions: a panic below one does not unwind into C but aborts
//! the process, after its message went to stderr.

pub mod app;
pub mod backend;
pub mod bdev;
pub mod bdev_io;
pub mod bdev_module;
pub mod clock;
pub mod cpu;
pub mod disk;
mod disk_head;
pub mod dma;
pub mod durable_file;
pub mod errno;
pub mod forwarded_io;
pub mod instance;
pub mod interrupt;
mod interrupt_mode;
pub mod iov;
mod json;
pub mod keyring;
pub mod log;
pub mod machine;
mod module_address;
mod open_bdev;
pub mod open_files;
mod parting;
mod parts;
pub mod poller;
pub mod port;
pub mod random;
mod resets;
pub mod resolve;
pub mod rpc;
pub mod secret_file;
pub mod sock;
pub mod sock_impl;
pub mod subsystem;
pub mod thread;
pub mod trace;
mod vectors;

pub use errno::{Errno, Result};
