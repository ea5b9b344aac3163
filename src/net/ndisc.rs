//! Neighbour discovery (RFC 4861): solicitations and advertisements. Routers' messages are of no
//! interest here, since routes are configured.

use std::net::Ipv6Addr;

use smoltcp::wire::{
    EthernetAddress as MacAddress, Icmpv6Packet, NdiscNeighborFlags, NdiscRepr, RawHardwareAddress,
};

use crate::counters::DropReason;

/// The length of a message with a link-layer address, and of one without.
pub(crate) const LEN: usize = 32;
pub(crate) const LEN_WITHOUT_MAC: usize = 24;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// A solicitation asks for the link-layer address of `target`, or whether anybody has that
    /// address.
    Solicit { target: Ipv6Addr, sender: Option<MacAddress> },
    /// An advertisement answers, or announces a new link-layer address.
    Advertise { target: Ipv6Addr, mac: Option<MacAddress>, answers: bool, replaces: bool },
}

/// Returns the link-layer address of an option, which must be Ethernet's.
fn mac(option: Option<RawHardwareAddress>) -> Result<Option<MacAddress>, DropReason> {
    let mac = |raw: RawHardwareAddress| raw.as_bytes().try_into().map(MacAddress);
    option.map(mac).transpose().map_err(|_| DropReason::Malformed)
}

impl Message {
    /// Returns the message in an ICMPv6 packet with a valid checksum. `None`: it is another one.
    pub fn parse(packet: &Icmpv6Packet<&[u8]>) -> Result<Option<Message>, DropReason> {
        if packet.msg_code() != 0 {
            return Err(DropReason::Malformed);
        }
        let message = match NdiscRepr::parse(packet).map_err(|_| DropReason::Malformed)? {
            NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
                Message::Solicit { target: target_addr, sender: mac(lladdr)? }
            }
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => Message::Advertise {
                target: target_addr,
                mac: mac(lladdr)?,
                answers: flags.contains(NdiscNeighborFlags::SOLICITED),
                replaces: flags.contains(NdiscNeighborFlags::OVERRIDE),
            },
            _ => return Ok(None),
        };
        let (Message::Solicit { target, .. } | Message::Advertise { target, .. }) = message;
        // RFC 4861, 7.1.
        if target.is_multicast() { Err(DropReason::Malformed) } else { Ok(Some(message)) }
    }

    /// Returns the length of the message.
    pub fn len(&self) -> usize {
        match self {
            Message::Solicit { sender: None, .. } | Message::Advertise { mac: None, .. } => LEN_WITHOUT_MAC,
            _ => LEN,
        }
    }

    /// Writes the message and its checksum.
    pub fn write(&self, buffer: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr) {
        let raw = |mac: MacAddress| RawHardwareAddress::from_bytes(mac.as_bytes());
        let repr = match *self {
            Message::Solicit { target, sender } => {
                NdiscRepr::NeighborSolicit { target_addr: target, lladdr: sender.map(raw) }
            }
            Message::Advertise { target, mac, answers, replaces } => {
                let flag = |set: bool, flag| if set { flag } else { NdiscNeighborFlags::empty() };
                let answers = flag(answers, NdiscNeighborFlags::SOLICITED);
                let flags = answers | flag(replaces, NdiscNeighborFlags::OVERRIDE);
                NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr: mac.map(raw) }
            }
        };
        let mut packet = Icmpv6Packet::new_unchecked(buffer);
        repr.emit(&mut packet);
        packet.fill_checksum(&source, &destination);
    }
}

/// Returns the multicast address that the owner of an address listens to (RFC 4291, 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The multicast address of all hosts of the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let address = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, last);
        let mac = Some(MacAddress([2, 0, 0, 0, 0, 1]));
        for message in [
            Message::Solicit { target: address(1), sender: mac },
            Message::Solicit { target: address(1), sender: None },
            Message::Advertise { target: address(1), mac, answers: true, replaces: false },
            Message::Advertise { target: address(1), mac, answers: false, replaces: true },
        ] {
            let mut bytes = vec![0xee; message.len()];
            message.write(&mut bytes, address(2), address(3));
            let packet = Icmpv6Packet::new_checked(&bytes[..]).expect("it is long enough");
            assert!(packet.verify_checksum(&address(2), &address(3)));
            assert_eq!(Message::parse(&packet), Ok(Some(message)));
        }
        assert_eq!(solicited_node(address(1)), "ff02::1:ff12:1".parse::<Ipv6Addr>().expect("valid"));
    }

    #[test]
    fn an_option_of_length_0_is_malformed() {
        let target = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        let mut bytes = [0; LEN];
        Message::Solicit { target, sender: Some(MacAddress([2; 6])) }.write(&mut bytes, target, target);
        bytes[25] = 0;
        let packet = Icmpv6Packet::new_checked(&bytes[..]).expect("it is long enough");
        assert_eq!(Message::parse(&packet), Err(DropReason::Malformed));
    }
}
