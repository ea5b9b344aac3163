//! The headers below TCP of the last segment: most segments come from the host that sent the one
//! before, and what was checked about its headers need not be checked again.

use std::net::Ipv4Addr;
use std::ops::Range;

/// The lengths of Ethernet's header without a tag and of IPv4's without options, in bytes. Other
/// headers are never familiar.
const LINK: usize = 14;
const HEADERS: usize = LINK + 20;

/// The fields that may differ from one segment to the next, as offsets in the frame: the length and
/// the identification, and the checksum.
const LENGTH: usize = LINK + 2;
const AFTER_IDENTIFICATION: usize = LINK + 6;
const CHECKSUM: usize = LINK + 10;
const AFTER_CHECKSUM: usize = LINK + 12;

/// The headers of a segment that was accepted. An address that was usable once stays so
/// ([`crate::addresses`]), and the other checks do not depend on anything that changes.
#[derive(Debug)]
pub(crate) struct Familiar {
    headers: [u8; HEADERS],
}

/// A segment in an IPv4 packet with familiar headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FamiliarPacket {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// The range of the segment in the frame.
    pub payload: Range<usize>,
}

impl Familiar {
    /// Returns the headers of a frame with a segment that was accepted and begins at `payload`, or
    /// `None` if they are not of the kind that can be familiar.
    pub fn new(frame: &[u8], payload: usize) -> Option<Familiar> {
        let headers = *frame.first_chunk::<HEADERS>()?;
        let is_ipv4 = headers[LINK - 2..=LINK] == [0x08, 0x00, 0x45];
        (is_ipv4 && payload == HEADERS).then_some(Familiar { headers })
    }

    /// Returns the packet in a frame if its headers are familiar, and well-formed in what differs.
    /// `verify` is true if the port has not verified the header's checksum.
    pub fn packet(&self, frame: &[u8], verify: bool) -> Option<FamiliarPacket> {
        let headers = frame.first_chunk::<HEADERS>()?;
        let known = &self.headers;
        let is_familiar = headers[..LENGTH] == known[..LENGTH]
            && headers[AFTER_IDENTIFICATION..CHECKSUM] == known[AFTER_IDENTIFICATION..CHECKSUM]
            && headers[AFTER_CHECKSUM..] == known[AFTER_CHECKSUM..];
        if !is_familiar || (verify && !is_sum_right(headers)) {
            return None;
        }
        let [.., a, b, c, d, e, f, g, h] = *headers;
        let end = LINK + usize::from(u16::from_be_bytes([headers[LENGTH], headers[LENGTH + 1]]));
        (HEADERS <= end && end <= frame.len()).then(|| FamiliarPacket {
            source: Ipv4Addr::new(a, b, c, d),
            destination: Ipv4Addr::new(e, f, g, h),
            payload: HEADERS..end,
        })
    }
}

/// Returns true if the checksum of an IPv4 header is right (RFC 1071).
fn is_sum_right(headers: &[u8; HEADERS]) -> bool {
    let (words, _) = headers[LINK..].as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff) == 0xffff
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{EthernetAddress as MacAddress, EthernetProtocol, IpProtocol};

    use super::*;
    use crate::ethernet::Writer;
    use crate::ip::{self, HOP_LIMIT, Header};

    /// Returns a frame with a payload of this length.
    fn frame(payload_len: usize, last: u8) -> Vec<u8> {
        let mut frame = vec![0; HEADERS + payload_len];
        let writer = Writer { mac: MacAddress([2, 0, 0, 0, 0, last]), vlan: None };
        let rest = writer.write(&mut frame, MacAddress([2, 0, 0, 0, 0, 1]), EthernetProtocol::Ipv4);
        let (source, destination) = ([10, 0, 0, last].into(), [10, 0, 0, 1].into());
        let protocol = IpProtocol::Tcp;
        Header { source, destination, protocol, hop_limit: HOP_LIMIT, payload_len }.write(rest, true);
        frame
    }

    #[test]
    fn what_is_familiar_is_what_the_parser_would_return() {
        let familiar = Familiar::new(&frame(100, 2), HEADERS).expect("the headers are plain");
        for len in [0, 1, 20, 1000] {
            let mut frame = frame(len, 2);
            frame.extend([0; 7]);
            let packet = familiar.packet(&frame, true).expect("only the length differs");
            let parsed = ip::parse_v4(&frame, LINK, true).expect("it is well-formed");
            assert_eq!(packet.payload, parsed.payload);
            assert_eq!(
                (parsed.source, parsed.destination),
                (packet.source.into(), packet.destination.into())
            );
        }
        assert_eq!(familiar.packet(&frame(100, 3), true), None, "it comes from another host");
    }

    /// Whatever byte is changed, with and without a checksum that fits: either the parser returns
    /// the same, or the headers are not familiar.
    #[test]
    fn no_change_goes_unnoticed() {
        let known = frame(100, 2);
        let familiar = Familiar::new(&known, HEADERS).expect("the headers are plain");
        for at in 0..HEADERS {
            for bit in 0..8 {
                let mut changed = known.clone();
                changed[at] ^= 1 << bit;
                for verify in [true, false] {
                    let Some(packet) = familiar.packet(&changed, verify) else { continue };
                    assert!((LENGTH..AFTER_CHECKSUM).contains(&at) && !verify, "{at}");
                    let parsed = ip::parse_v4(&changed, LINK, verify).expect("it is well-formed");
                    assert_eq!(packet.payload, parsed.payload);
                }
            }
        }
        let cut_off = &known[..known.len() - 1];
        assert_eq!(familiar.packet(cut_off, true), None);
    }
}
