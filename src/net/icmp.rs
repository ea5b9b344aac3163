//! Errors of ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as they matter to TCP.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet,
    Icmpv6DstUnreachable, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet,
};

use crate::config::SMALLEST_MTU_V6;
use crate::counters::DropReason;
use crate::mutation::{Mutation, is_on};

/// The length of the header of both ICMPs' messages.
pub(crate) const HEADER_LEN: usize = 8;

/// A TCP header without options.
const TCP_HEADER_LEN: u16 = 20;

/// What every error quotes of the TCP header: the ports and the sequence number (RFC 792).
const QUOTED_LEN: usize = 8;

/// What an error says about a packet that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It was too long; segments may have at most `most` bytes after a header without options.
    TooBig { most: u16 },
    /// The destination will not take it: the port or the protocol is not served, or somebody
    /// forbids it.
    Refused,
    /// The destination cannot be reached for now.
    Unreachable,
}

/// An error about a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The segment's sequence number.
    pub seq: u32,
    pub problem: Problem,
}

/// Returns what an ICMP error for `destination` reports.
pub(crate) fn report_v4(packet: &Icmpv4Packet<&[u8]>, destination: IpAddr) -> Result<Report, DropReason> {
    if packet.msg_type() != Icmpv4Message::DstUnreachable {
        return Err(DropReason::Protocol);
    }
    let quoted = packet.data();
    let ip = Ipv4Packet::new_unchecked(quoted);
    if quoted.len() < IPV4_HEADER_LEN || ip.version() != 4 || ip.frag_offset() != 0 {
        return Err(DropReason::Malformed);
    }
    let problem = match Icmpv4DstUnreachable::from(packet.msg_code()) {
        Icmpv4DstUnreachable::FragRequired => {
            // RFC 1191, 4: the MTU of the next hop, where older routers have 0, which tells nothing
            // that TCP does not find out by itself.
            let [.., high, low] = packet_word(packet);
            let mtu = u16::from_be_bytes([high, low]);
            let most = mtu.checked_sub(IPV4_HEADER_LEN as u16 + TCP_HEADER_LEN);
            Problem::TooBig { most: most.filter(|most| *most > 0).ok_or(DropReason::Unrelated)? }
        }
        // RFC 1122, 4.2.3.9; RFC 1812, 5.2.7.1.
        Icmpv4DstUnreachable::ProtoUnreachable
        | Icmpv4DstUnreachable::PortUnreachable
        | Icmpv4DstUnreachable::NetProhibited
        | Icmpv4DstUnreachable::HostProhibited
        | Icmpv4DstUnreachable::CommProhibited => Problem::Refused,
        _ => Problem::Unreachable,
    };
    let header = usize::from(ip.header_len());
    if ip.next_header() != IpProtocol::Tcp || header < IPV4_HEADER_LEN {
        return Err(DropReason::Unrelated);
    }
    report((ip.src_addr().into(), ip.dst_addr().into()), quoted.get(header..), destination, problem)
}

/// Returns the four bytes after the checksum.
fn packet_word(packet: &Icmpv4Packet<&[u8]>) -> [u8; 4] {
    let (ident, number) = (packet.echo_ident().to_be_bytes(), packet.echo_seq_no().to_be_bytes());
    [ident[0], ident[1], number[0], number[1]]
}

/// Returns what an ICMPv6 error for `destination` reports.
pub(crate) fn report_v6(packet: &Icmpv6Packet<&[u8]>, destination: IpAddr) -> Result<Report, DropReason> {
    let problem = match packet.msg_type() {
        Icmpv6Message::PktTooBig => {
            // RFC 8201, 4: no path has a smaller MTU than that of IPv6.
            let mtu = packet.pkt_too_big_mtu().clamp(u32::from(SMALLEST_MTU_V6), u32::from(u16::MAX));
            Problem::TooBig { most: mtu as u16 - IPV6_HEADER_LEN as u16 - TCP_HEADER_LEN }
        }
        Icmpv6Message::DstUnreachable => match Icmpv6DstUnreachable::from(packet.msg_code()) {
            Icmpv6DstUnreachable::AdminProhibit | Icmpv6DstUnreachable::PortUnreachable => Problem::Refused,
            _ => Problem::Unreachable,
        },
        _ => return Err(DropReason::Protocol),
    };
    let quoted = packet.payload();
    let ip = Ipv6Packet::new_unchecked(quoted);
    if quoted.len() < IPV6_HEADER_LEN || ip.version() != 6 {
        return Err(DropReason::Malformed);
    }
    if ip.next_header() != IpProtocol::Tcp {
        return Err(DropReason::Unrelated);
    }
    let addresses = (ip.src_addr().into(), ip.dst_addr().into());
    report(addresses, quoted.get(IPV6_HEADER_LEN..), destination, problem)
}

/// `quoted`: the beginning of the TCP header.
fn report(
    (source, target): (IpAddr, IpAddr),
    quoted: Option<&[u8]>,
    destination: IpAddr,
    problem: Problem,
) -> Result<Report, DropReason> {
    // Routers report to the source of a packet, and to nobody else.
    if source != destination && !is_on(Mutation::NoQuoteCheck) {
        return Err(DropReason::Unrelated);
    }
    let quoted = quoted.and_then(|quoted| quoted.first_chunk::<QUOTED_LEN>());
    let [a, b, c, d, seq @ ..] = quoted.ok_or(DropReason::Malformed)?;
    Ok(Report {
        local: SocketAddr::new(source, u16::from_be_bytes([*a, *b])),
        remote: SocketAddr::new(target, u16::from_be_bytes([*c, *d])),
        seq: u32::from_be_bytes(*seq),
        problem,
    })
}
