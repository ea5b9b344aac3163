//! An address and the length of its network's prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// An address with the length of a prefix in bits: an interface's address, or a route's
/// destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The address. Bits beyond the prefix may be set.
    pub address: IpAddr,
    /// The length of the prefix: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub length: u8,
}

impl Prefix {
    /// Returns the prefix of this length of an address.
    pub fn new(address: impl Into<IpAddr>, length: u8) -> Prefix {
        Prefix { address: address.into(), length }
    }

    /// Returns true if the length is valid for the address's family.
    pub fn is_valid(&self) -> bool {
        self.length <= if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Returns true if an address has this prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differs = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                u128::from(own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.length))
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.length))
            }
            _ => return false,
        };
        differs.unwrap_or(0) == 0
    }

    /// Returns true if an address is the broadcast address of this IPv4 network.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            // RFC 3021: a network with a prefix of 31 bits has no broadcast address; a prefix of 32
            // bits is a single address.
            (IpAddr::V4(own), IpAddr::V4(other)) if self.length < 31 => {
                other.to_bits() == own.to_bits() | (u32::MAX >> self.length)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The text is no address with the length of its network's prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an address with the length of its network's prefix, such as 192.0.2.1/24")]
pub struct NotPrefix(String);

impl FromStr for Prefix {
    type Err = NotPrefix;

    fn from_str(text: &str) -> Result<Prefix, NotPrefix> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            // The length's own `parse` would take a sign.
            let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = Prefix { address: address.parse().ok()?, length: length.parse().ok()? };
            (is_number && prefix.is_valid()).then_some(prefix)
        };
        parse().ok_or_else(|| NotPrefix(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').expect("there is a slash");
        Prefix::new(address.parse::<IpAddr>().expect("valid"), length.parse().expect("valid"))
    }

    #[test]
    fn a_prefix_contains_what_begins_with_it() {
        for (text, inside, outside) in [
            ("10.1.2.3/24", "10.1.2.255", "10.1.3.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("10.1.2.3/0", "200.0.0.1", "::1"),
            ("fd00:1::5/64", "fd00:1::ffff", "fd00:1:0:1::5"),
            ("::/0", "fe80::1", "10.0.0.1"),
        ] {
            let prefix = prefix(text);
            assert!(prefix.contains(inside.parse().expect("valid")), "{text} {inside}");
            assert!(!prefix.contains(outside.parse().expect("valid")), "{text} {outside}");
        }
    }

    #[test]
    fn only_ipv4_networks_of_more_than_two_addresses_have_a_broadcast_address() {
        let is = |text, other: &str| prefix(text).is_broadcast(other.parse().expect("valid"));
        assert!(is("10.1.2.3/24", "10.1.2.255") && is("10.1.2.3/0", "255.255.255.255"));
        assert!(!is("10.1.2.3/24", "10.1.2.254") && !is("10.1.2.2/31", "10.1.2.3"));
        assert!(!is("10.1.2.3/32", "10.1.2.3") && !is("fd00::/64", "fd00::ffff:ffff:ffff:ffff"));
    }
}
