//! Addresses of targets, and names of hosts, which resolve to addresses.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// The longest name of a network interface in bytes: Linux's `IFNAMSIZ` less its final zero.
const SCOPE_MAX: usize = 15;

/// An IP address. A link-local IPv6 address includes the interface through which it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The name or number of the interface, as in `fe80::1%eth0`.
    scope: Option<Box<str>>,
}

/// The longest name of a host in bytes (RFC 1035, section 2.3.4, less the dot at the end).
const NAME_MAX: usize = 253;

/// The longest part of a name between dots in bytes (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Returns true if an address is of this family.
    pub fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Family::V4)
    }

    /// Returns the family's name in RPCs.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

/// The place of a target, as a user gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The target's address.
    Address(Address),
    /// A host name. The target is at one of the addresses to which the name resolves.
    Name(String),
}

/// The text is neither an address nor a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("neither an IPv4 or IPv6 address nor the name of a host")]
pub struct NotAPlace;

/// The text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an IPv4 or IPv6 address")]
pub struct NotAnAddress;

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        Address { ip, scope: None }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Address, NotAnAddress> {
        let (ip, scope) = match text.split_once('%') {
            Some((ip, scope)) => (ip, Some(scope)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| NotAnAddress)?;
        let fits = scope.is_none_or(|scope| {
            let is_name = scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'%');
            ip.is_ipv6() && is_name && (1..=SCOPE_MAX).contains(&scope.len())
        });
        if fits { Ok(Address { ip, scope: scope.map(Box::from) }) } else { Err(NotAnAddress) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        match &self.scope {
            Some(scope) => write!(f, "%{scope}"),
            None => Ok(()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(resolved: SocketAddr) -> Address {
        let scope = match resolved {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string().into()),
            _ => None,
        };
        Address { ip: resolved.ip(), scope }
    }
}

impl Place {
    /// Returns the address, or `None` if the place is a name.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Place::Address(address) => Some(address),
            Place::Name(_) => None,
        }
    }

    /// Returns the name, or `None` if the place is an address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Place::Address(_) => None,
            Place::Name(name) => Some(name),
        }
    }
}

impl From<IpAddr> for Place {
    fn from(ip: IpAddr) -> Place {
        Place::Address(ip.into())
    }
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Place, NotAPlace> {
        if let Ok(address) = text.parse() {
            return Ok(Place::Address(address));
        }
        let is_label = |label: &str| {
            (1..=LABEL_MAX).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        // A name whose last part is a number is a mistyped address.
        let is_number =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        let is_name = name.len() <= NAME_MAX && name.split('.').all(is_label) && !is_number;
        if is_name { Ok(Place::Name(text.to_owned())) } else { Err(NotAPlace) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => address.fmt(f),
            Place::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_name() {
        for name in ["storage1", "storage-1.example.org", "a_b.example.org.", "3com.example"] {
            assert_eq!(name.parse(), Ok(Place::Name(name.to_owned())));
        }
        assert_eq!("192.0.2.1".parse::<Place>().unwrap().address().unwrap().to_string(), "192.0.2.1");
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "256.0.0.1",
            "1.2.3",
            "::g",
            " a",
            "a b",
            "a..b",
            "-a",
            "a-",
            "192.0.2.1:80",
            "[::1]",
            &long,
        ] {
            assert_eq!(bad.parse::<Place>(), Err(NotAPlace), "{bad}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_was_given() {
        for good in ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "fe80::1%3", "fe80::1%br-lan.12"] {
            assert_eq!(good.parse::<Address>().map(|address| address.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "host",
            "192.0.2.1%eth0",
            "fe80::1%",
            "fe80::1%a/b",
            "fe80::1%a%b",
            "fe80::1%0123456789abcdef",
        ] {
            assert_eq!(bad.parse::<Address>(), Err(NotAnAddress), "{bad}");
        }
    }
}
