//! What an interface tells its user, beside TCP's events.

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress as MacAddress;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetEvent {
    /// Nobody else was found to have the address: it is in use from now on.
    Usable(IpAddr),
    /// Another host has the address, which is therefore not used. It is tried again from time to
    /// time.
    Duplicate(IpAddr, MacAddress),
}
