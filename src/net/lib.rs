//! Interfaces for ports that bypass the kernel: Ethernet frames and time go in, frames come out.
//!
//! An [`Interface`] is the layer between a port and TCP: IPv4 and IPv6, ARP and neighbour
//! discovery, routes, a VLAN tag, and ICMP. It owns the TCP stack above it. It does no I/O,
//! reads no clock and draws no random numbers. Times are microseconds of a clock that never goes
//! back.
//!
//! Any received frame may have been made by an attacker. All memory of this layer is allocated when
//! the interface is created; what does not fit is dropped and counted.
//!
//! | module | contents |
//! | --- | --- |
//! | `interface` | the calls of a port's driver: `input`, `output` |
//! | `link` | everything below TCP, put together; `respond`: what is answered without TCP |
//! | `ethernet`, `ip`, `arp`, `ndisc`, `icmp` | the wire formats |
//! | `addresses` | the interface's own addresses: probed, announced, defended |
//! | `neighbours` | the link-layer addresses of other hosts |
//! | `routes` | the next hop to an address |
//! | `shard` | which stack has a connection, if the port has several queue pairs |
//! | `outbox` | frames that wait for a neighbour's address, and answers |
//! | `frame` | a frame to be sent |
//! | `limiter` | a rate limit |
//! | `config`, `counters`, `event`, `prefix` | settings, counters, events, address prefixes |
//! | `mutation` | protections that the simulator removes, to see that it notices |

#![forbid(unsafe_code)]

mod addresses;
mod arp;
mod config;
mod counters;
mod ethernet;
mod event;
mod familiar;
mod frame;
mod icmp;
mod interface;
mod ip;
mod limiter;
mod link;
pub mod mutation;
mod ndisc;
mod neighbours;
mod outbox;
mod prefix;
mod routes;
mod shard;

pub use config::{Config, ConfigError, Offloads, Route};
pub use counters::{Counters, DropReason};
pub use event::NetEvent;
pub use frame::{Frame, Headers};
pub use interface::{ConnectError, Interface, Verified};
pub use prefix::Prefix;
pub use shard::{RSS_KEY, Receiver, SHARDS_MAX, Shard};

/// A link-layer address (EUI-48).
pub use smoltcp::wire::EthernetAddress as MacAddress;
