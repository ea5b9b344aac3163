//! The public API of `spdk/safe`, on top of a simulated world instead of SPDK.
//!
//! The crates of `src/` are compiled against this one, unchanged, because it has the same name. The world has
//! processes with SPDK threads, a network, backends, users of bdevs, and a clock, all of it on one OS thread
//! and from one seed: nothing happens but in [`world::step`], so the same seed gives the same history.
//!
//! | module | what |
//! | --- | --- |
//! | [`world`] | time, what is due, whose turn it is |
//! | [`process`] | processes: start, stop, continue, die |
//! | [`net`] | connections, and all that can happen to them |
//! | [`store`] | the devices behind the targets' bdevs, and what the world knows of each write |
//! | [`promise`] | what must hold, by the numbers of docs/failures.md |
//! | [`user`] | who uses the clients' bdevs |
//! | the rest | as in `spdk/safe`, for the code under test |

pub mod backend;
pub mod bdev;
pub mod bdev_io;
pub mod bdev_module;
pub mod clock;
pub mod cpu;
pub mod disk;
pub mod dma;
pub mod errno;
mod framing;
pub mod instance;
pub mod interrupt;
pub mod iov;
pub mod keyring;
pub mod local;
pub mod log;
pub mod net;
pub mod open_files;
pub mod poller;
pub mod process;
pub mod promise;
pub mod random;
pub mod rng;
pub mod secret_file;
pub mod sock;
pub mod store;
pub mod thread;
pub mod user;
pub mod world;

pub use errno::{Errno, Result};
