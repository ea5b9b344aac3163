//! Access rights: which host may attach an export, from which addresses, and what it may do.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The name that stands for every host.
pub const ANY_HOST: &str = "*";

/// What a host may do with an export. The lesser right comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Read only.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// The number of bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, section
/// 2.5.5.2).
const MAPPED_LEN: u8 = 96;

/// A network: an address and the number of its leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

/// The reason why a text is not a [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// The text is neither an address nor a prefix.
    #[error(
        "`{0}` is neither an address nor a prefix such as 192.0.2.0/24 or 2001:db8::/32 (no bits may be set after the prefix)"
    )]
    NotAPrefix(String),
    /// The prefix is an IPv4-mapped IPv6 address, with a length that includes more than IPv4
    /// addresses.
    #[error(
        "`{0}` is an IPv4-mapped IPv6 address with a length below 96; write it as IPv4, such as 192.0.2.0/24"
    )]
    ShortIpv4(String),
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Parses `ADDRESS` or `ADDRESS/LENGTH`. Bits after the prefix must be zero, so that a typing
    /// error does not admit more than was meant. An IPv4-mapped IPv6 prefix
    /// (`::ffff:192.0.2.0/120`) becomes IPv4, because [`Prefix::contains`] treats such addresses as
    /// IPv4.
    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let error = || PrefixError::NotAPrefix(text.to_owned());
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) if !len.is_empty() && len.bytes().all(|b| b.is_ascii_digit()) => {
                (addr, Some(len.parse().map_err(|_| error())?))
            }
            Some(_) => return Err(error()),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| error())?;
        let max = if addr.is_ipv4() { 32 } else { 128 };
        let len: u8 = len.unwrap_or(max);
        if len > max {
            return Err(error());
        }
        let (addr, len) = match addr.to_canonical() {
            ipv4 @ IpAddr::V4(_) if addr.is_ipv6() => {
                let short = || PrefixError::ShortIpv4(text.to_owned());
                (ipv4, len.checked_sub(MAPPED_LEN).ok_or_else(short)?)
            }
            _ => (addr, len),
        };
        if bits(addr) & !mask(len) != 0 {
            return Err(error());
        }
        Ok(Prefix { addr, len })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// Returns the bits of the address, the first one as the highest of 128.
fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)) << 96,
        IpAddr::V6(addr) => u128::from(addr),
    }
}

/// Returns a mask of the `len` leading bits. (An IPv4 address has no bits set after its 32.)
fn mask(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) }
}

impl Prefix {
    /// Returns whether `addr` is in the network. An IPv4-mapped IPv6 address, as an IPv6 socket
    /// reports it, counts as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.addr.is_ipv4() && (bits(addr) ^ bits(self.addr)) & mask(self.len) == 0
    }
}

/// The place of the keys that a host and a target share. Keys are read anew at each handshake and
/// never kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeySource {
    /// A file, given by its absolute path.
    File(String),
    /// SPDK's keyring, given by the name of the key in it.
    Keyring(String),
}

impl KeySource {
    /// Returns the name of the RPC parameter that gives this source, and its value.
    pub fn parameter(&self) -> (&'static str, &str) {
        match self {
            KeySource::File(path) => ("psk_file", path),
            KeySource::Keyring(name) => ("psk", name),
        }
    }
}

/// An entry in an export's access list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// The name of the host, or [`ANY_HOST`].
    pub name: String,
    /// What the host may do.
    pub access: Access,
    /// The addresses from which the host may connect; empty: from anywhere.
    pub addresses: Vec<Prefix>,
    /// The keys of which the host must have one; `None`: the host attaches without a key.
    pub keys: Option<KeySource>,
}

/// Returns the entry that admits `host` from `addr`, or `None` if there is no such entry.
///
/// If there is an entry with the host's own name, that entry alone decides: the `*` entry does not
/// restore what it denies.
pub fn entry<'a>(hosts: &'a [Host], host: &str, addr: IpAddr) -> Option<&'a Host> {
    let entry = hosts
        .iter()
        .find(|entry| entry.name == host && host != ANY_HOST)
        .or_else(|| hosts.iter().find(|entry| entry.name == ANY_HOST))?;
    let inside = entry.addresses.is_empty() || entry.addresses.iter().any(|prefix| prefix.contains(addr));
    inside.then_some(entry)
}

/// Returns what `host` may do from `addr`, or `None` if it is not admitted.
pub fn rights(hosts: &[Host], host: &str, addr: IpAddr) -> Option<Access> {
    entry(hosts, host, addr).map(|entry| entry.access)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, access: Access, addresses: &[&str]) -> Host {
        Host {
            name: name.to_owned(),
            access,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            keys: None,
        }
    }

    #[test]
    fn prefixes() {
        let inside =
            |prefix: &str, addr: &str| prefix.parse::<Prefix>().unwrap().contains(addr.parse().unwrap());
        assert!(inside("10.0.0.0/8", "10.255.0.1"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("10.1.2.3", "10.1.2.3"));
        assert!(!inside("10.1.2.3", "10.1.2.2"));
        assert!(inside("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(inside("0.0.0.0/0", "1.2.3.4"));
        assert!(!inside("0.0.0.0/0", "::1"));
        assert!(inside("2001:db8::/32", "2001:db8:1::"));
        assert!(!inside("2001:db8::/32", "2001:db9::"));
        assert!(inside("::/0", "::1"));
        for bad in
            ["", "x", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "::1/129"]
        {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert_eq!("10.0.0.0/8".parse::<Prefix>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn ipv4_written_as_ipv6_is_ipv4() {
        for (text, is) in [
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:c000:201/128", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), is, "{text}");
            for from in ["192.0.2.1", "::ffff:192.0.2.1"] {
                assert!(prefix.contains(from.parse().unwrap()), "{text} has {from}");
            }
            assert!(!prefix.contains("2001:db8::1".parse().unwrap()), "{text}");
        }
        assert!("::ffff:192.0.2.1/120".parse::<Prefix>().is_err(), "bits behind the length");
        for short in ["::ffff:0:0/95", "::ffff:192.0.2.0/24", "::ffff:0.0.0.0/0"] {
            let error = short.parse::<Prefix>().unwrap_err().to_string();
            assert!(error.contains(short) && error.contains("write it as IPv4"), "{error}");
        }
        // The addresses next to the IPv4-mapped range are IPv6.
        for ipv6 in ["::/0", "::fffe:0:0/95", "::192.0.2.0/120"] {
            assert!(!ipv6.parse::<Prefix>().unwrap().contains("192.0.2.1".parse().unwrap()), "{ipv6}");
        }
    }

    #[test]
    fn nobody_gets_in_by_default_and_the_own_entry_decides() {
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(rights(&[], "a", from), None);
        let hosts = [
            host("*", Access::ReadOnly, &[]),
            host("a", Access::ReadWrite, &["192.0.2.0/24"]),
            host("b", Access::ReadWrite, &["198.51.100.0/24"]),
        ];
        assert_eq!(rights(&hosts, "a", from), Some(Access::ReadWrite));
        assert_eq!(rights(&hosts, "b", from), None);
        assert_eq!(rights(&hosts, "c", from), Some(Access::ReadOnly));
        assert_eq!(rights(&hosts[1..], "*", from), None, "`*` is not a name that a client may use");
    }
}
