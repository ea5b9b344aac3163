//! The public API of `spdk/safe`, for code that runs in a simulated world instead of in SPDK.
//!
//! The crates of `src/` are compiled against this crate unchanged, because it has the same name.
//! The crate `world` below it has processes, threads, a network, disks and a clock, of which this
//! crate makes SPDK threads, pollers, sockets in groups, and bdevs. Like `spdk/safe`, it takes its
//! plain types from `spdk/contract`.
//!
//! | module | contents |
//! | --- | --- |
//! | [`disks`] | the bdevs that the code under test registered, as SPDK's bdev layer sees them |
//! | [`user`] | the users of these bdevs |
//! | [`record`] | what happened, for the checkers |
//! | all others | the API of `spdk/safe`, for the code under test |

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
pub mod machine;
pub mod open_files;
pub mod poller;
pub mod random;
pub mod record;
pub mod resolve;
pub mod secret_file;
pub mod sock;
pub mod thread;
pub mod trace;
pub mod user;

pub use errno::{Errno, Result};
