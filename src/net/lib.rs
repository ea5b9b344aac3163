//! Interfaces for ports that bypass the kernel: Ethernet frames and time go in, frames come out.
//!
//! An [`Interface`] is what lies between a port and TCP: IPv4 and IPv6, ARP and neighbour
//! discovery, routes, a VLAN tag, ICMP. It owns the TCP stack of its thread. There is no I/O here,
//! no clock and no randomness. Times are microseconds of a clock that never goes back.
//!
//! Whatever comes in may have been made by an attacker. All memory of this layer is allocated when
//! the interface is created; what does not fit is dropped and counted.
//!
//! | module | what |
//! | --- | --- |
//! | `interface` | what a port's driver calls: `input`, `output` |
//! | `link` | what is below TCP, together; `respond`: what it answers by itself |
//! | `ethernet`, `ip`, `arp`, `ndisc`, `icmp` | what is on the wire |
//! | `addresses` | the interface's own addresses: found to be free, announced, defended |
//! | `neighbours` | the link-layer addresses of others |
//! | `routes` | the next hop to an address |
//! | `outbox` | frames that wait for a neighbour's address, and answers |
//! | `frame` | a frame to be sent |
//! | `limiter` | at most so many a second |
//! | `config`, `counters`, `event`, `prefix` | what can be set, counted and told |
//! | `mutation` | protections that the simulator takes away, to see that it notices |

#![forbid(unsafe_code)]

mod addresses;
mod arp;
mod config;
mod counters;
mod ethernet;
mod event;
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

pub use config::{Config, ConfigError, Offloads, Route};
pub use counters::{Counters, DropReason};
pub use event::NetEvent;
pub use frame::{Frame, Headers};
pub use interface::{ConnectError, Interface, Verified};
pub use prefix::Prefix;

/// A link-layer address (EUI-48).
pub use smoltcp::wire::EthernetAddress as MacAddress;
