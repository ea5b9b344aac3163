//! Ethernet headers, with or without a VLAN tag (IEEE 802.1Q).

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{ETHERNET_HEADER_LEN, EthernetAddress as MacAddress, EthernetFrame, EthernetProtocol};

use crate::counters::DropReason;

/// The type of a frame with a tag, and the tag's length. Two bytes of control information follow,
/// of which 12 bits are the VLAN, and the type of what is behind.
const TAGGED: u16 = 0x8100;
const TAG_LEN: usize = 4;
const VLAN_MASK: u16 = 0xfff;

/// The header of a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub source: MacAddress,
    pub destination: MacAddress,
    pub ethertype: EthernetProtocol,
    /// Where the payload begins.
    pub payload: usize,
}

/// Returns the header of a frame that belongs to this VLAN, or to none.
pub(crate) fn parse(bytes: &[u8], vlan: Option<u16>) -> Result<Header, DropReason> {
    let frame = EthernetFrame::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (mut tag, mut ethertype, mut payload) = (None, frame.ethertype(), ETHERNET_HEADER_LEN);
    if ethertype == EthernetProtocol::Unknown(TAGGED) {
        let control = word(payload).ok_or(DropReason::Malformed)?;
        ethertype = word(payload + 2).ok_or(DropReason::Malformed)?.into();
        payload += TAG_LEN;
        // VLAN 0 is none: the tag only says a priority.
        tag = Some(control & VLAN_MASK).filter(|vlan| *vlan != 0);
    }
    if tag != vlan {
        return Err(DropReason::Vlan);
    }
    Ok(Header { source: frame.src_addr(), destination: frame.dst_addr(), ethertype, payload })
}

/// Writes the headers of an interface's frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub mac: MacAddress,
    pub vlan: Option<u16>,
}

impl Writer {
    /// Returns the length of a header.
    pub fn len(&self) -> usize {
        ETHERNET_HEADER_LEN + if self.vlan.is_some() { TAG_LEN } else { 0 }
    }

    /// Writes a header. Returns what follows it.
    pub fn write<'a>(
        &self,
        buffer: &'a mut [u8],
        destination: MacAddress,
        ethertype: EthernetProtocol,
    ) -> &'a mut [u8] {
        let (header, rest) = buffer.split_at_mut(self.len());
        let mut frame = EthernetFrame::new_unchecked(&mut *header);
        frame.set_src_addr(self.mac);
        frame.set_dst_addr(destination);
        match self.vlan {
            None => frame.set_ethertype(ethertype),
            Some(vlan) => {
                frame.set_ethertype(EthernetProtocol::Unknown(TAGGED));
                let tag = &mut header[ETHERNET_HEADER_LEN..];
                tag[..2].copy_from_slice(&vlan.to_be_bytes());
                tag[2..].copy_from_slice(&u16::from(ethertype).to_be_bytes());
            }
        }
        rest
    }
}

/// Returns the frame type of an address's family.
pub(crate) fn ethertype(address: IpAddr) -> EthernetProtocol {
    if address.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 }
}

/// Returns the link-layer address of an IPv6 multicast address (RFC 2464, 7).
pub(crate) fn multicast(address: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = address.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    #[test]
    fn what_is_written_is_read() {
        for vlan in [None, Some(1), Some(4094)] {
            let writer = Writer { mac: MAC, vlan };
            let mut buffer = [0; 64];
            let rest = writer.write(&mut buffer, MacAddress::BROADCAST, EthernetProtocol::Arp).len();
            let header = parse(&buffer, vlan).expect("it is well-formed");
            assert_eq!((header.source, header.destination), (MAC, MacAddress::BROADCAST));
            assert_eq!((header.ethertype, header.payload), (EthernetProtocol::Arp, 64 - rest));
            assert_eq!(parse(&buffer, Some(2)), Err(DropReason::Vlan));
        }
    }

    #[test]
    fn a_tag_may_say_only_a_priority_and_may_not_be_cut_off() {
        let mut buffer = [0; 64];
        Writer { mac: MAC, vlan: Some(0xe000) }.write(&mut buffer, MAC, EthernetProtocol::Ipv4);
        assert_eq!(parse(&buffer, None).map(|header| header.payload), Ok(18));
        for length in 0..18 {
            assert_eq!(parse(&buffer[..length], None), Err(DropReason::Malformed), "{length}");
        }
    }
}
