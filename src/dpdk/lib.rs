//! Sockets of SPDK over DPDK's ports: the sock implementation `dpdk`.
//!
//! | module | contents |
//! | --- | --- |
//! | `interfaces` | the interfaces of the process: created, deleted, listed, found by address |
//! | `interface` | an interface, which its users share; and the poller that keeps it alive |
//! | `shared` | the sockets of a queue pair, with a lock |
//! | `port` | a queue pair of a port of DPDK, as `dst-sockets` wants it |
//! | `memif` | the arguments of a memif |
//! | `sockets` | the sock implementation |
//!
//! An interface has a stack for each queue pair of its port, which a lock protects: any thread may use
//! its sockets. The lock is free as long as one core uses them. A connection is in the stack whose
//! queue gets its frames; one that a reactor opens is in that reactor's, and one that is accepted is
//! best used by the thread that uses the others of its stack, which SPDK's targets ask for.

#![forbid(unsafe_code)]

mod interface;
mod interfaces;
mod memif;
mod port;
mod shared;
mod sockets;

pub use interface::{Interface, Settings};
pub use interfaces::{CreateError, create, delete, delete_all, find, list};
pub use sockets::register;
