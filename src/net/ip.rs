//! IP headers of both versions.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use crate::counters::DropReason;
use crate::mutation::{Mutation, is_on};

/// What packets may still be forwarded by: RFC 1700's default. Messages of neighbour discovery have
/// the largest number, which shows that nobody has forwarded them (RFC 4861, 7.1).
pub(crate) const HOP_LIMIT: u8 = 64;
pub(crate) const NDISC_HOP_LIMIT: u8 = 255;

/// Options of IPv4: the end, one without a length, and the source routes (RFC 791, 3.1), which
/// nobody should want (RFC 7126, 4.3).
const OPTION_END: u8 = 0;
const OPTION_NONE: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// A received packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: IpProtocol,
    pub hop_limit: u8,
    /// Where the payload is in the frame. What follows it is padding.
    pub payload: Range<usize>,
}

/// Returns the IPv4 packet at `start` of a frame. `verify`: the port has not verified its checksum.
pub(crate) fn parse_v4(bytes: &[u8], start: usize, verify: bool) -> Result<Packet, DropReason> {
    let packet = Ipv4Packet::new_checked(&bytes[start..]).map_err(|_| DropReason::Malformed)?;
    let header = usize::from(packet.header_len());
    if packet.version() != 4 || header < IPV4_HEADER_LEN {
        return Err(DropReason::Malformed);
    }
    if verify && !packet.verify_checksum() && !is_on(Mutation::NoIpv4Checksum) {
        return Err(DropReason::Checksum);
    }
    if (packet.more_frags() || packet.frag_offset() != 0) && !is_on(Mutation::NoFragmentCheck) {
        return Err(DropReason::Fragment);
    }
    if has_source_route(&bytes[start + IPV4_HEADER_LEN..start + header]) {
        return Err(DropReason::Options);
    }
    Ok(Packet {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        hop_limit: packet.hop_limit(),
        payload: start + header..start + usize::from(packet.total_len()),
    })
}

/// Returns whether options have a source route, or are cut off. Others mean nothing to a host.
fn has_source_route(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        match (*kind, rest.first()) {
            (OPTION_END, _) => return false,
            (OPTION_NONE, _) => options = rest,
            (LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, _) | (_, None | Some(..2)) => return true,
            (_, Some(length)) => match options.get(usize::from(*length)..) {
                Some(rest) => options = rest,
                None => return true,
            },
        }
    }
    false
}

/// Returns the IPv6 packet at `start` of a frame.
pub(crate) fn parse_v6(bytes: &[u8], start: usize) -> Result<Packet, DropReason> {
    let packet = Ipv6Packet::new_checked(&bytes[start..]).map_err(|_| DropReason::Malformed)?;
    if packet.version() != 6 {
        return Err(DropReason::Malformed);
    }
    match packet.next_header() {
        IpProtocol::Ipv6Frag => return Err(DropReason::Fragment),
        // No host sends TCP or ICMPv6 behind these without a special reason.
        IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
            return Err(DropReason::Options);
        }
        _ => {}
    }
    Ok(Packet {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        hop_limit: packet.hop_limit(),
        payload: start + IPV6_HEADER_LEN..start + packet.total_len(),
    })
}

/// What goes into the header of a packet to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: IpProtocol,
    pub hop_limit: u8,
    pub payload_len: usize,
}

/// Returns the length of the header in a packet to or from an address.
pub(crate) fn header_len(address: IpAddr) -> usize {
    if address.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
}

impl Header {
    /// Writes the header; routers may not fragment the packet. Returns what follows it. `checksum`:
    /// whether the checksum of IPv4 is filled in.
    pub fn write<'a>(&self, buffer: &'a mut [u8], checksum: bool) -> &'a mut [u8] {
        let (header, rest) = buffer.split_at_mut(header_len(self.source));
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let repr = Ipv4Repr {
                    src_addr: source,
                    dst_addr: destination,
                    next_header: self.protocol,
                    payload_len: self.payload_len,
                    hop_limit: self.hop_limit,
                };
                let checksums =
                    if checksum { ChecksumCapabilities::default() } else { ChecksumCapabilities::ignored() };
                repr.emit(&mut Ipv4Packet::new_unchecked(header), &checksums);
            }
            (source, destination) => {
                let repr = Ipv6Repr {
                    src_addr: v6(source),
                    dst_addr: v6(destination),
                    next_header: self.protocol,
                    payload_len: self.payload_len,
                    hop_limit: self.hop_limit,
                };
                repr.emit(&mut Ipv6Packet::new_unchecked(header));
            }
        }
        rest
    }
}

/// Returns the address as IPv6.
pub(crate) fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(source: &str, destination: &str) -> Vec<u8> {
        let header = Header {
            source: source.parse().expect("valid"),
            destination: destination.parse().expect("valid"),
            protocol: IpProtocol::Tcp,
            hop_limit: HOP_LIMIT,
            payload_len: 10,
        };
        let mut bytes = vec![0; header_len(header.source) + 10];
        header.write(&mut bytes, true);
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_padding_is_not() {
        let (mut v4, mut v6) = (packet("10.0.0.1", "10.0.0.2"), packet("fd00::1", "fd00::2"));
        v4.extend([0; 9]);
        v6.extend([0; 9]);
        let read = parse_v4(&v4, 0, true).expect("it is well-formed");
        assert_eq!((read.payload, read.protocol), (20..30, IpProtocol::Tcp));
        let read = parse_v6(&v6, 0).expect("it is well-formed");
        assert_eq!((read.payload, read.source), (40..50, "fd00::1".parse().expect("valid")));
        for length in 0..30 {
            assert_eq!(parse_v4(&v4[..length], 0, true), Err(DropReason::Malformed), "{length}");
            assert_eq!(parse_v6(&v6[..length + 20], 0), Err(DropReason::Malformed), "{length}");
        }
    }

    #[test]
    fn fragments_and_wrong_checksums_are_refused() {
        let change = |at: usize, value: u8| {
            let mut bytes = packet("10.0.0.1", "10.0.0.2");
            bytes[at] = value;
            let wrong = parse_v4(&bytes, 0, true).expect_err("its checksum is wrong");
            assert_eq!(wrong, DropReason::Checksum);
            parse_v4(&bytes, 0, false)
        };
        assert_eq!(change(6, 0x20), Err(DropReason::Fragment), "more fragments follow");
        assert_eq!(change(7, 1), Err(DropReason::Fragment), "it is not the first one");
        assert!(change(6, 0).is_ok(), "it might be fragmented, and is not");
        let mut v6 = packet("fd00::1", "fd00::2");
        for (next, reason) in
            [(44, DropReason::Fragment), (0, DropReason::Options), (43, DropReason::Options)]
        {
            v6[6] = next;
            assert_eq!(parse_v6(&v6, 0), Err(reason));
        }
    }

    #[test]
    fn source_routes_are_refused_and_other_options_are_not() {
        for (options, refused) in [
            (&[1, 1, 1, 0][..], false),
            (&[7, 4, 0, 0], false),
            (&[1, 131, 3, 4], true),
            (&[137, 3, 4, 0], true),
            (&[7, 5, 0, 0], true),
            (&[7, 0, 0, 0], true),
            (&[1, 1, 1, 7], true),
            (&[0, 131, 3, 4], false),
        ] {
            assert_eq!(has_source_route(options), refused, "{options:?}");
        }
    }
}
