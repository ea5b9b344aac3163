//! The next hop to an address.

use std::net::IpAddr;

use crate::config::{Route, is_link_local};
use crate::mutation::{Mutation, is_on};
use crate::prefix::Prefix;

/// Where packets go next. It does not change.
#[derive(Debug)]
pub(crate) struct Routes {
    /// The networks of the interface's own addresses.
    on_link: Vec<Prefix>,
    /// The longest prefix first.
    gateways: Vec<Route>,
}

impl Routes {
    pub fn new(addresses: &[Prefix], routes: &[Route]) -> Routes {
        let mut gateways = routes.to_vec();
        if !is_on(Mutation::NoLongestPrefix) {
            gateways.sort_by_key(|route| std::cmp::Reverse(route.destination.length));
        }
        Routes { on_link: addresses.to_vec(), gateways }
    }

    /// Returns whether an address is a neighbour's.
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        let has_ipv6 = || self.on_link.iter().any(|prefix| prefix.address.is_ipv6());
        self.on_link.iter().any(|prefix| prefix.contains(address)) || (is_link_local(address) && has_ipv6())
    }

    /// Returns the neighbour that packets to an address are sent to.
    pub fn next_hop(&self, destination: IpAddr) -> Option<IpAddr> {
        if self.is_on_link(destination) {
            return Some(destination);
        }
        let route = self.gateways.iter().find(|route| route.destination.contains(destination))?;
        Some(route.gateway)
    }

    /// Returns whether an address is the broadcast address of a network here.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        self.on_link.iter().any(|prefix| prefix.is_broadcast(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let address = |text: &str| text.parse::<IpAddr>().expect("valid");
        let prefix = |text: &str, length| Prefix::new(address(text), length);
        let route = |text: &str, length, gateway: &str| Route {
            destination: prefix(text, length),
            gateway: address(gateway),
        };
        let routes = Routes::new(
            &[prefix("10.0.0.1", 24), prefix("fd00::1", 64)],
            &[
                route("0.0.0.0", 0, "10.0.0.254"),
                route("10.1.2.0", 24, "10.0.0.253"),
                route("10.1.0.0", 16, "10.0.0.252"),
                route("fd01::", 16, "fe80::1"),
            ],
        );
        for (destination, hop) in [
            ("10.0.0.9", Some("10.0.0.9")),
            ("10.1.2.9", Some("10.0.0.253")),
            ("10.1.3.9", Some("10.0.0.252")),
            ("10.2.3.9", Some("10.0.0.254")),
            ("fd00::9", Some("fd00::9")),
            ("fe80::9", Some("fe80::9")),
            ("fd01::9", Some("fe80::1")),
            ("fd02::9", None),
        ] {
            assert_eq!(routes.next_hop(address(destination)), hop.map(address), "{destination}");
        }
    }
}
