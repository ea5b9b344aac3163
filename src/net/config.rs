//! What can be set, with its default and the reason for it.

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress as MacAddress;
use thiserror::Error;

use crate::prefix::Prefix;

/// Own addresses of an interface, at most.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// Routes through gateways, at most: they are searched one after the other.
pub(crate) const MAX_ROUTES: usize = 32;

/// The MTU that every link must carry: with IPv6 (RFC 8200, 5), and with IPv4 (RFC 791: hosts
/// accept 576 bytes).
pub(crate) const SMALLEST_MTU_V6: u16 = 1280;
const SMALLEST_MTU: u16 = 576;

/// What the port does itself for frames that are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The port fills in the checksum of IPv4 headers, which are sent with 0.
    pub ipv4_checksum: bool,
    /// The port completes the checksum of TCP, which is sent with the sum of the pseudo header.
    pub tcp_checksum: bool,
}

/// A route through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which destinations it is for; length 0: all.
    pub destination: Prefix,
    /// The router, which is a neighbour.
    pub gateway: IpAddr,
}

/// The settings of an [`Interface`](crate::Interface).
#[derive(Debug, Clone)]
pub struct Config {
    /// The port's link-layer address.
    pub mac: MacAddress,
    /// The longest IP packet in bytes: 576 to 65,535, with IPv6 at least 1,280. Default: 1,500. It
    /// decides the MSS of TCP.
    pub mtu: u16,
    /// The VLAN that frames belong to, 1 to 4,094. Default: none, frames have no tag.
    pub vlan: Option<u16>,
    /// The interface's addresses with their networks' prefixes, at most 16. With an IPv6 address,
    /// the link-local address that the MAC address gives is added (RFC 4291, 2.1).
    pub addresses: Vec<Prefix>,
    /// Routes beyond the networks of `addresses`, at most 32. The longest prefix is taken.
    pub routes: Vec<Route>,
    /// What the port does itself.
    pub offloads: Offloads,
    /// Whether addresses are used only after nobody else was found to have them (RFC 5227, RFC
    /// 4862), which takes a second. Default: yes.
    pub detect_duplicates: bool,
    /// Neighbours that are known or asked for; the one that was not used for longest is forgotten
    /// for a new one. 2 to 16,384. Default: 1,024.
    pub max_neighbours: usize,
    /// Neighbours that are asked for at a time; of them, half at most on behalf of peers that are
    /// not known yet. 2 to 1,024. Default: 64. It bounds what an attacker causes with invented
    /// addresses (RFC 6583).
    pub max_resolving: usize,
    /// Frames that wait for neighbours' addresses. 1 to 1,024. Default: 64. Each one takes the MTU
    /// in memory.
    pub max_waiting: usize,
    /// Frames that wait for one neighbour's address; the oldest is dropped for a new one. Default:
    /// 8.
    pub max_waiting_each: usize,
    /// Answers that wait to be sent: ARP, neighbour discovery, echo. 1 to 1,024. Default: 64. Each
    /// one takes the MTU in memory.
    pub max_answers: usize,
    /// Echo requests that are answered in a second, at most. Default: 100. 0: none are.
    pub echo_rate: u32,
    /// TCP's settings. `mss` is decided by the MTU.
    pub tcp: dst_tcp::Config,
}

impl Config {
    /// Returns the defaults for a port with this link-layer address, with these addresses.
    pub fn new(mac: MacAddress, addresses: Vec<Prefix>) -> Config {
        Config {
            mac,
            mtu: 1500,
            vlan: None,
            addresses,
            routes: Vec::new(),
            offloads: Offloads::default(),
            detect_duplicates: true,
            max_neighbours: 1_024,
            max_resolving: 64,
            max_waiting: 64,
            max_waiting_each: 8,
            max_answers: 64,
            echo_rate: 100,
            tcp: dst_tcp::Config::default(),
        }
    }

    /// Returns whether any address is IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|prefix| prefix.address.is_ipv6())
    }

    /// Returns what is wrong with the settings, if anything is.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
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
            let on_link = |prefix: &Prefix| prefix.contains(route.gateway) && prefix.address != route.gateway;
            let link_local = self.has_ipv6() && is_link_local(route.gateway);
            let same_family = route.destination.address.is_ipv4() == route.gateway.is_ipv4();
            let is_neighbour = is_host(route.gateway) && (link_local || self.addresses.iter().any(on_link));
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

/// Returns whether an address can be one host's.
pub(crate) fn is_host(address: IpAddr) -> bool {
    match address {
        // 0.0.0.0/8 and 240.0.0.0/4 are reserved (RFC 6890), 127.0.0.0/8 is never on a wire.
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => {
            !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback() && v6.to_ipv4_mapped().is_none()
        }
    }
}

/// Returns whether an address is an IPv6 link-local address (`fe80::/10`).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Returns whether a link-layer address can be one host's.
pub(crate) fn is_host_mac(mac: MacAddress) -> bool {
    mac.is_unicast() && mac.0 != [0; 6]
}

/// What is wrong with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The link-layer address is a group's, or 0.
    #[error("{0} is not the link-layer address of a host: set the port's own address")]
    Mac(MacAddress),
    /// The MTU is too small.
    #[error("an MTU of {0} is too small: with these addresses it is at least {1}")]
    Mtu(u16, u16),
    /// There is no such VLAN.
    #[error("VLAN {0} does not exist: it is 1 to 4094")]
    Vlan(u16),
    /// There is no address, or there are too many.
    #[error("an interface has 1 to {MAX_ADDRESSES} addresses, not {0}")]
    Addresses(usize),
    /// The address cannot be a host's, or is there twice.
    #[error("{0} is not a host's address with the length of its network's prefix, or is there twice")]
    Address(Prefix),
    /// There are too many routes.
    #[error("an interface has at most {MAX_ROUTES} routes, not {0}")]
    Routes(usize),
    /// The gateway cannot be reached, or is of another family.
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
        let limit = Some(ConfigError::Limit("max_waiting", 0, 1, 1024));
        assert_eq!(wrong(|config| config.max_waiting = 0), limit);
    }
}
