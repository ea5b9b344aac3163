//! Addresses of targets.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The longest name of a network interface in bytes: Linux's `IFNAMSIZ` less its final zero.
const SCOPE_MAX: usize = 15;

/// An IP address; of a link-local IPv6 address, the interface behind which it is, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The name or number of the interface, as in `fe80::1%eth0`.
    scope: Option<Box<str>>,
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
