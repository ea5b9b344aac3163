//! Sockets of SPDK over DPDK's ports: the sock implementation `dpdk`.
//!
//! | module | contents |
//! | --- | --- |
//! | `interfaces` | the interfaces of the process: created, deleted, listed, found by address |
//! | `interface` | an interface, which its users share; and the poller that keeps it alive |
//! | `port` | a port of DPDK, as `dst-sockets` wants it |
//! | `memif` | the arguments of a memif |
//! | `sockets` | the sock implementation |
//!
//! An interface has one stack, which a lock protects: any thread may use its sockets. The lock is
//! free as long as one core uses them.

#![forbid(unsafe_code)]

mod interface;
mod interfaces;
mod memif;
mod port;
mod sockets;

pub use interface::{Interface, Settings};
pub use interfaces::{CreateError, create, delete, delete_all, find, list};
pub use sockets::register;
