//! The settings of an interface, with their defaults and the reasons for them.

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress as MacAddress;
use thiserror::Error;

use crate::prefix::Prefix;
use crate::shard::Shard;

/// The maximum number of an interface's own addresses.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// The maximum number of routes through gateways. They are searched linearly.
pub(crate) const MAX_ROUTES: usize = 32;

/// The MTU that every link must carry with IPv6 (RFC 8200, 5), and the one with IPv4 (RFC 791:
/// hosts accept 576 bytes).
pub(crate) const SMALLEST_MTU_V6: u16 = 1280;
const SMALLEST_MTU: u16 = 576;

/// The work on sent frames that the port does itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Whether the port fills in the checksum of IPv4 headers, which it gets as 0.
    pub ipv4_checksum: bool,
    /// Whether the port completes the checksum of TCP, which it gets as the sum of the pseudo
    /// header.
    pub tcp_checksum: bool,
    /// Whether the port cuts TCP segments to their MSS (TSO). It then computes both checksums, too.
    pub segmentation: bool,
}

/// A route through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The destinations of the route. A prefix of length 0 stands for all of them.
    pub destination: Prefix,
    /// The router, which is a neighbour.
    pub gateway: IpAddr,
}

/// The settings of an [`Interface`](crate::Interface).
#[derive(Debug, Clone)]
pub struct Config {
    /// The port's link-layer address.
    pub mac: MacAddress,
    /// The maximum length of an IP packet in bytes: 576 to 65,535, with IPv6 at least 1,280.
    /// Default: 1,500. The MSS of TCP follows from it.
    pub mtu: u16,
    /// The VLAN of frames, 1 to 4,094. Default: none, frames have no tag.
    pub vlan: Option<u16>,
    /// The interface's addresses with the prefixes of their networks, at most 16. With an IPv6
    /// address, the link-local address that is derived from the MAC address is added (RFC 4291,
    /// 2.1).
    pub addresses: Vec<Prefix>,
    /// Routes beyond the networks of `addresses`, at most 32. The route with the longest matching
    /// prefix is used.
    pub routes: Vec<Route>,
    /// The work on sent frames that the port does itself.
    pub offloads: Offloads,
    /// Which of the stacks on the port this is. Only the first one answers for the addresses, and finds
    /// out whether another host has them; the others are told ([`Interface::follow`]). Default: there
    /// is one stack only.
    ///
    /// [`Interface::follow`]: crate::Interface::follow
    pub shard: Shard,
    /// Whether an address is used only after no other host was found to have it (RFC 5227, RFC
    /// 4862), which takes a second. Default: yes.
    pub detect_duplicates: bool,
    /// The maximum number of neighbours that are known or being asked for. A new one replaces the
    /// least recently used one. 2 to 16,384. Default: 1,024.
    pub max_neighbours: usize,
    /// The maximum number of neighbours that are asked for at a time. At most half of them are
    /// asked for on behalf of peers that are not known yet. 2 to 1,024. Default: 64. This limit
    /// bounds what an attacker can cause with invented addresses (RFC 6583).
    pub max_resolving: usize,
    /// The maximum number of frames that wait for neighbours' addresses. 1 to 1,024. Default: 64.
    /// Each frame takes the MTU in memory.
    pub max_waiting: usize,
    /// The maximum number of frames that wait for one neighbour's address. A new frame replaces the
    /// oldest. 1 to 1,024. Default: 8.
    pub max_waiting_each: usize,
    /// The maximum number of answers (ARP, neighbour discovery, echo) that wait to be sent. 1 to
    /// 1,024. Default: 64. Each answer takes the MTU in memory.
    pub max_answers: usize,
    /// The maximum number of echo requests that are answered in a second. Default: 100. With 0,
    /// none is answered.
    pub echo_rate: u32,
    /// TCP's settings. `mss` is overwritten according to the MTU. `offload_bytes` is as much as an
    /// IP packet can carry: segments of one connection share most of the work if they are made by
    /// cutting a long one, be it by the port or by the interface.
    pub tcp: dst_tcp::Config,
}

impl Config {
    /// Returns the default settings for a port with this link-layer address and these IP addresses.
    pub fn new(mac: MacAddress, addresses: Vec<Prefix>) -> Config {
        Config {
            mac,
            mtu: 1500,
            vlan: None,
            addresses,
            routes: Vec::new(),
            offloads: Offloads::default(),
            shard: Shard::only(),
            detect_duplicates: true,
            max_neighbours: 1_024,
            max_resolving: 64,
            max_waiting: 64,
            max_waiting_each: 8,
            max_answers: 64,
            echo_rate: 100,
            tcp: dst_tcp::Config { offload_bytes: u32::MAX, ..dst_tcp::Config::default() },
        }
    }

    /// Returns true if any address is IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|prefix| prefix.address.is_ipv6())
    }

    /// Checks the settings. Fails with what is wrong with them.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !is_host_mac(self.mac) {
            return Err(ConfigError::Mac(self.mac));
        }
        let smallest = if self.has_ipv6() { SMALLEST_MTU_V6 } else { SMALLEST_MTU };
        if self.mtu < smallest {
            return Err(ConfigError::Mtu(self.mtu, smallest));
        }
        if let Some(vlan) = self.vlan
            && !(1..=4094).contains(&vlan)
        {
            return Err(ConfigError::Vlan(vlan));
        }
        if self.addresses.is_empty() || self.addresses.len() > MAX_ADDRESSES {
            return Err(ConfigError::Addresses(self.addresses.len()));
        }
        for (index, prefix) in self.addresses.iter().enumerate() {
            let same = |other: &Prefix| other.address == prefix.address;
            if !prefix.is_valid() || prefix.length == 0 || !is_host(prefix.address) {
                return Err(ConfigError::Address(*prefix));
            }
            if prefix.is_broadcast(prefix.address) || self.addresses[..index].iter().any(same) {
                return Err(ConfigError::Address(*prefix));
            }
        }
        if self.routes.len() > MAX_ROUTES {
            return Err(ConfigError::Routes(self.routes.len()));
        }
        for route in &self.routes {
            let on_link =
                |prefix: &Prefix| prefix.contains(route.gateway) && !prefix.is_broadcast(route.gateway);
            let own = |prefix: &Prefix| prefix.address == route.gateway;
            let link_local = self.has_ipv6() && is_link_local(route.gateway);
            let same_family = route.destination.address.is_ipv4() == route.gateway.is_ipv4();
            let is_neighbour = is_host(route.gateway)
                && (link_local || self.addresses.iter().any(on_link))
                && !self.addresses.iter().any(own);
            if !route.destination.is_valid() || !same_family || !is_neighbour {
                return Err(ConfigError::Route(route.destination, route.gateway));
            }
        }
        for (name, value, least, most) in [
            ("max_neighbours", self.max_neighbours, 2, 16_384),
            ("max_resolving", self.max_resolving, 2, 1_024),
            ("max_waiting", self.max_waiting, 1, 1_024),
            ("max_waiting_each", self.max_waiting_each, 1, 1_024),
            ("max_answers", self.max_answers, 1, 1_024),
        ] {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::Limit(name, value, least, most));
            }
        }
        Ok(())
    }
}

/// Returns true if an address can be that of a single host.
pub(crate) fn is_host(address: IpAddr) -> bool {
    match address {
        // 0.0.0.0/8 and 240.0.0.0/4 are reserved (RFC 6890), 127.0.0.0/8 is never on a wire.
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => {
            !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback() && v6.to_ipv4_mapped().is_none()
        }
    }
}

/// Returns true if an address is an IPv6 link-local address (`fe80::/10`).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Returns true if a link-layer address can be that of a single host.
pub(crate) fn is_host_mac(mac: MacAddress) -> bool {
    mac.is_unicast() && mac.0 != [0; 6]
}

/// What is wrong with an interface's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The link-layer address is a group address or 0.
    #[error("{0} is not the link-layer address of a host: set the port's own address")]
    Mac(MacAddress),
    /// The MTU is too small.
    #[error("an MTU of {0} is too small: with these addresses, give at least {1}")]
    Mtu(u16, u16),
    /// The VLAN is out of range.
    #[error("VLAN {0} is out of range: give one from 1 to 4094")]
    Vlan(u16),
    /// There is no address, or there are too many.
    #[error("an interface has 1 to {MAX_ADDRESSES} addresses, not {0}")]
    Addresses(usize),
    /// The address cannot be a host's, or occurs twice.
    #[error("{0} is not a host's address with the length of its network's prefix, or occurs twice")]
    Address(Prefix),
    /// There are too many routes.
    #[error("an interface has at most {MAX_ROUTES} routes, not {0}")]
    Routes(usize),
    /// The gateway is not a neighbour, or is of another address family than the destination.
    #[error("the route to {0} cannot use {1}: a gateway is in the network of one of the addresses")]
    Route(Prefix, IpAddr),
    /// A limit is out of its range.
    #[error("{0} is {1}: it must be {2} to {3}")]
    Limit(&'static str, usize, usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let address = |text: &str| text.parse::<IpAddr>().expect("valid");
        let addresses = vec![Prefix::new(address("10.0.0.1"), 24), Prefix::new(address("fd00::1"), 64)];
        let gateway = |text: &str, gateway: &str| Route {
            destination: Prefix::new(address(text), 0),
            gateway: address(gateway),
        };
        let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, 1]), addresses);
        config.routes = vec![gateway("0.0.0.0", "10.0.0.254"), gateway("::", "fe80::1")];
        config
    }

    /// Changes the settings, and returns what is wrong with them.
    fn wrong(change: impl FnOnce(&mut Config)) -> Option<ConfigError> {
        let mut config = config();
        change(&mut config);
        config.check().err()
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(wrong(|_| {}), None);
        let group = MacAddress([3, 0, 0, 0, 0, 1]);
        assert_eq!(wrong(|config| config.mac = group), Some(ConfigError::Mac(group)));
        assert_eq!(wrong(|config| config.mtu = 1279), Some(ConfigError::Mtu(1279, 1280)));
        assert_eq!(wrong(|config| config.vlan = Some(4095)), Some(ConfigError::Vlan(4095)));
        assert_eq!(wrong(|config| config.addresses.clear()), Some(ConfigError::Addresses(0)));
        for (text, length) in [("10.0.0.255", 24), ("224.0.0.1", 24), ("10.0.0.9", 33), ("10.0.0.1", 8)] {
            let prefix = Prefix::new(text.parse::<IpAddr>().expect("valid"), length);
            assert_eq!(wrong(|config| config.addresses.push(prefix)), Some(ConfigError::Address(prefix)));
        }
        let far = "10.0.1.1".parse().expect("valid");
        let destination = config().routes[0].destination;
        let expected = Some(ConfigError::Route(destination, far));
        assert_eq!(wrong(|config| config.routes[0].gateway = far), expected);
        // A gateway is another host, and a single one.
        for (text, gateway) in
            [("10.0.0.2", "10.0.0.2"), ("10.0.0.2", "10.0.0.1"), ("10.0.0.2", "10.0.0.255")]
        {
            let second = Prefix::new(text.parse::<IpAddr>().expect("valid"), 24);
            let gateway = gateway.parse().expect("valid");
            let found = wrong(|config| {
                config.addresses.push(second);
                config.routes[0].gateway = gateway;
            });
            assert_eq!(found, Some(ConfigError::Route(destination, gateway)));
        }
        let limit = Some(ConfigError::Limit("max_waiting", 0, 1, 1024));
        assert_eq!(wrong(|config| config.max_waiting = 0), limit);
    }
}
