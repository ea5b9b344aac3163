//! Sockets on an interface that bypasses the kernel.
//!
//! [`Sockets`] has what the users of an interface see: connections and listeners that are read,
//! written and polled in groups. Below it, a driver moves frames between `dst-net` and a [`Port`].
//! There is no I/O and no clock here: the port is the caller's, and so is the time, in microseconds
//! of a clock that never goes back. So all of it is tested with a fake port.
//!
//! An interface on a port with several queue pairs has a shard for each, with sockets of its own: a
//! connection is in one of them, which the hash of its addresses and ports decides, and a listener is in
//! all.
//!
//! | module | contents |
//! | --- | --- |
//! | `sockets` | the sockets of an interface: `transfer` reads and writes, `groups` tells which are ready |
//! | `entry` | a socket |
//! | `by_connection` | the sockets of connections |
//! | `pace` | how many sockets are reported as ready at a time |
//! | `driver` | moves frames between a port and the interface |
//! | `exchange` | what the shards of an interface tell each other |
//! | `port` | what a port has to do |
//! | `frame` | a received frame, in a buffer of the port or copied out of it |
//! | `data` | data to be sent, copied or lent |
//! | `buffers` | the memory of data that was copied |

#![forbid(unsafe_code)]

mod buffers;
mod by_connection;
mod data;
mod driver;
mod entry;
mod exchange;
mod frame;
mod pace;
mod port;
mod sockets;

pub use data::NothingLent;
pub use entry::{End, SocketId};
pub use exchange::{Exchange, Steered};
pub use port::Port;
pub use sockets::{Connect, ListenError, Sockets, SocketsCounters, TransferError};
