//! Numbers that an outsider cannot predict: SipHash of a connection's addresses with a secret key.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::{SipHasher13, SipHasher24};

/// A connection's addresses, as it is looked up by. IPv4 addresses are mapped into IPv6's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple {
    local: u128,
    remote: u128,
    ports: u32,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The upper 96 bits of an IPv4 address that is mapped into IPv6's (RFC 4291, 2.5.5.2).
const MAPPED: u128 = 0xffff;

/// Each segment is looked up by its hash, and the time that a hash takes is in proportion to the
/// bytes.
impl Hash for Tuple {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if self.local >> 32 == MAPPED && self.remote >> 32 == MAPPED {
            hasher.write_u64((self.local as u64) << 32 | u64::from(self.remote as u32));
        } else {
            hasher.write_u128(self.local);
            hasher.write_u128(self.remote);
        }
        hasher.write_u32(self.ports);
    }
}

impl Tuple {
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Tuple {
        Tuple {
            local: number(local.ip()),
            remote: number(remote.ip()),
            ports: u32::from(local.port()) << 16 | u32::from(remote.port()),
        }
    }
}

/// A secret of 128 random bits. The stack has no source of randomness; its user has.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 16]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What a number is for: the same addresses give another one for each purpose.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    SequenceNumber = 1,
    Clock = 2,
    Port = 3,
    Cookie = 4,
}

impl Secret {
    fn hash(&self, purpose: Purpose, tuple: &Tuple) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u8(purpose as u8);
        hasher.write_u128(tuple.local);
        hasher.write_u128(tuple.remote);
        hasher.write_u32(tuple.ports);
        hasher.finish()
    }

    /// Returns an initial sequence number: a clock of 4 µs, from a beginning of the connection's
    /// own (RFC 6528).
    pub(crate) fn sequence_number(&self, tuple: &Tuple, now: u64) -> u32 {
        (self.hash(Purpose::SequenceNumber, tuple) as u32).wrapping_add((now / 4) as u32)
    }

    /// Returns what a connection's timestamps are ahead by. It does not depend on the ports, so
    /// that a later connection's are later (RFC 7323, 5.8; RFC 6191).
    pub(crate) fn clock_offset(&self, tuple: &Tuple) -> u32 {
        self.hash(Purpose::Clock, &Tuple { ports: 0, ..*tuple }) as u32
    }

    /// Returns bits that prove that a SYN with this sequence number was answered.
    pub(crate) fn cookie(&self, tuple: &Tuple, peer: u32, slot: u64, size: u32) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u64(self.hash(Purpose::Cookie, tuple));
        hasher.write_u32(peer);
        hasher.write_u64(slot);
        hasher.write_u32(size);
        hasher.finish() as u32
    }

    /// Returns where the search for a free local port begins (RFC 6056, 3.3.3).
    pub(crate) fn port(&self, tuple: &Tuple) -> u16 {
        self.hash(Purpose::Port, tuple) as u16
    }
}

impl BuildHasher for Secret {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_a_sequence_of_its_own_that_rises() {
        let secret = Secret([7; 16]);
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let (one, other) = (Tuple::new(address(1), address(2)), Tuple::new(address(1), address(3)));
        let first = secret.sequence_number(&one, 1000);
        assert_eq!(secret.sequence_number(&one, 1400).wrapping_sub(first), 100);
        assert_ne!(secret.sequence_number(&other, 1000), first);
        assert_ne!(Secret([8; 16]).sequence_number(&one, 1000), first);
        assert_eq!(secret.clock_offset(&one), secret.clock_offset(&other));
    }
}
