//! The Internet checksum (RFC 1071), eight bytes at a time.

use std::net::IpAddr;

/// TCP's protocol number (RFC 9293, 3.1).
const TCP: u64 = 6;

/// A one's complement sum of 16-bit words. It is kept in 64 bits, which changes nothing, since 2⁶⁴ - 1
/// is a multiple of 2¹⁶ - 1 (RFC 1071, 2 (C)); the words are in the machine's byte order until the
/// end (2 (B)).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Returns the sum of the pseudo header of a segment of `len` bytes (RFC 9293, 3.1; RFC 8200,
    /// 8.1).
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, len: usize) -> Sum {
        let mut sum = Sum::default();
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [a, b, c, d] = source.octets();
                let [e, f, g, h] = destination.octets();
                sum.add_word(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
            }
            (source, destination) => {
                for address in [source, destination] {
                    let octets = match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                        IpAddr::V6(address) => address.octets(),
                    };
                    sum.add(&octets);
                }
            }
        }
        sum.add_word((len as u64).to_be());
        sum.add_word(TCP.to_be());
        sum
    }

    fn add_word(&mut self, word: u64) {
        let (sum, carry) = self.0.overflowing_add(word);
        self.0 = sum + u64::from(carry);
    }

    /// Adds words. Each addition takes the carry of the one before along, which is one instruction
    /// a word, and only the last carry is added by itself.
    fn add_words(&mut self, words: &[[u8; 8]]) {
        let (mut sum, mut carry) = (self.0, false);
        for word in words {
            (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
        }
        // This does not overflow: a sum of all ones with a carry can only follow from another one.
        self.0 = sum + u64::from(carry);
    }

    /// Adds the first `N` bytes if there are so many. Returns the rest.
    fn add_block<'a, const N: usize>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((block, rest)) = bytes.split_first_chunk::<N>() else { return bytes };
        self.add_words(block.as_chunks::<8>().0);
        rest
    }

    /// Adds bytes, which begin at an even offset.
    pub fn add(&mut self, bytes: &[u8]) {
        // Two sums, since an addition waits for the carry of the one before.
        let mut other = Sum::default();
        let (pairs, rest) = bytes.as_chunks::<256>();
        for pair in pairs {
            let (words, _) = pair.as_chunks::<8>();
            self.add_words(&words[..16]);
            other.add_words(&words[16..]);
        }
        self.add_word(other.0);
        let rest = self.add_block::<128>(rest);
        let rest = self.add_block::<64>(rest);
        let rest = self.add_block::<32>(rest);
        let rest = self.add_block::<16>(rest);
        let mut rest = self.add_block::<8>(rest);
        if let Some((word, after)) = rest.split_first_chunk() {
            self.add_word(u64::from(u32::from_ne_bytes(*word)));
            rest = after;
        }
        if let Some((word, after)) = rest.split_first_chunk() {
            self.add_word(u64::from(u16::from_ne_bytes(*word)));
            rest = after;
        }
        if let Some(byte) = rest.first() {
            self.add_word(u64::from(u16::from_ne_bytes([*byte, 0])));
        }
    }

    /// Returns the sum as a header carries it, not complemented.
    pub fn folded(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        ((sum >> 16) as u16 + sum as u16).to_be()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{IpProtocol, checksum};

    use super::*;

    fn sum(bytes: &[u8]) -> u16 {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum.folded()
    }

    /// RFC 1071, 3.
    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn carries_are_never_lost() {
        for len in (0..2000).chain([65_535]) {
            assert_eq!(sum(&vec![0xff; len]), checksum::data(&vec![0xff; len]), "{len}");
        }
        // A carry that runs through all words of a group, from each place.
        for place in 0..48 {
            let mut bytes = [0xff; 384];
            bytes[8 * place] = 0;
            assert_eq!(sum(&bytes), checksum::data(&bytes), "{place}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_smoltcp(bytes in prop::collection::vec(any::<u8>(), 0..1600), from in 0usize..40) {
            let bytes = &bytes[from.min(bytes.len())..];
            prop_assert_eq!(sum(bytes), checksum::data(bytes));
        }

        #[test]
        fn the_pseudo_header_agrees_with_smoltcp(a: u128, b: u128, is_v4: bool, len in 0usize..65_536) {
            let address = |bits: u128| -> IpAddr {
                if is_v4 { std::net::Ipv4Addr::from(bits as u32).into() } else { std::net::Ipv6Addr::from(bits).into() }
            };
            let (a, b) = (address(a), address(b));
            let theirs = checksum::pseudo_header(&a.into(), &b.into(), IpProtocol::Tcp, len as u32);
            prop_assert_eq!(Sum::pseudo_header(a, b, len).folded(), theirs);
        }
    }
}
