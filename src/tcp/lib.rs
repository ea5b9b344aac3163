//! TCP for ports that bypass the kernel: segments and time go in, segments and events come out.
//!
//! There is no I/O here, no clock and no randomness, so whole conversations can be tested without a
//! network: `sim/tcp` does. Times are microseconds of a clock that never goes back. Data is not
//! copied: what is sent stays in the user's buffers until it is acknowledged, and what was received
//! is handed out as ranges of the frames that it came in.
//!
//! | module | what |
//! | --- | --- |
//! | `stack` | all connections of a thread: what its user calls |
//! | `table`, `timers`, `listener` | looking connections up, by addresses, by time, by listener |
//! | `connection` | a connection's state machine: `input`, `output`, `ends` |
//! | `sender` | what to send next; `ack`: what an ACK tells; `alarm`: what silence tells |
//! | `send_queue`, `scoreboard` | what is to be sent, and what was |
//! | `rack`, `recovery`, `rtt` | finding losses, repairing them, how long to wait |
//! | `cubic`, `hystart` | how much to send |
//! | `receiver`, `reassembly` | the window and ACKs; received data, in order or not yet |
//! | `segment`, `seq`, `clock`, `checksum` | what is on the wire |
//! | `secret`, `cookie` | numbers that nobody can predict; SYN cookies |
//! | `config`, `event`, `state` | what can be set, what is told, the states |
//! | `mutation` | mechanisms that the simulator takes away, to see that it notices |

#![forbid(unsafe_code)]

mod checksum;
mod clock;
mod config;
mod connection;
mod cookie;
mod cubic;
mod delayed_acks;
mod event;
mod hystart;
mod listener;
pub mod mutation;
mod prediction;
mod rack;
mod reassembly;
mod receiver;
mod recovery;
mod rtt;
mod scoreboard;
mod secret;
mod segment;
mod send_queue;
mod sender;
mod seq;
mod stack;
mod state;
mod table;
mod timers;

pub use config::{Config, KeepAlive};
pub use event::{ConnectionId, Event, ListenerId, Reason};
pub use reassembly::Chunk;
pub use secret::Secret;
pub use segment::{MAX_HEADER, Outgoing};
pub use send_queue::{Payload, Pieces};
pub use sender::SendCounters;
pub use stack::{ConnectError, Counters, Datagram, Information, Stack};
pub use state::State;
