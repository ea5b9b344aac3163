//! The public API of `spdk/safe`, for code that runs in a simulated world instead of in SPDK.
//!
//! The crates of `src/` are compiled against this one, unchanged, because it has the same name. The
//! `world` below has processes, threads, a network, disks and a clock; this crate makes of them SPDK
//! threads, pollers, sockets in groups, and bdevs. Its plain types are those of `spdk/contract`, as
//! are those of `spdk/safe`.
//!
//! | module | what |
//! | --- | --- |
//! | [`disks`] | the bdevs that the code under test has registered, as SPDK's bdev layer sees them |
//! | [`user`] | who uses them |
//! | [`record`] | what happened, for who checks it |
//! | the rest | as in `spdk/safe`, for the code under test |

pub mod backend;
pub mod bdev;
pub mod bdev_io;
pub mod bdev_module;
pub mod clock;
pub mod cpu;
mod desc;
pub mod disk;
pub mod disks;
pub mod dma;
pub mod durable_file;
pub mod errno;
pub mod instance;
pub mod interrupt;
pub mod iov;
pub mod keyring;
pub mod local;
pub mod log;
pub mod open_files;
pub mod poller;
pub mod random;
pub mod record;
pub mod resolve;
pub mod secret_file;
pub mod sock;
pub mod thread;
pub mod user;

pub use errno::{Errno, Result};
