//! The events that an interface reports to its user, besides TCP's.

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress as MacAddress;

/// An event of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetEvent {
    /// No other host was found to have the address, which is usable from now on.
    Usable(IpAddr),
    /// Another host, with this link-layer address, has the IP address, which is therefore not used.
    /// It is tried again from time to time.
    Duplicate(IpAddr, MacAddress),
}
