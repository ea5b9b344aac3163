//! ARP (RFC 826).

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress as MacAddress};

use crate::counters::DropReason;

/// The length of a message.
pub(crate) const LEN: usize = 28;

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// It asks; otherwise it answers.
    pub asks: bool,
    pub sender: (MacAddress, Ipv4Addr),
    pub target: (MacAddress, Ipv4Addr),
}

impl Message {
    pub fn parse(bytes: &[u8]) -> Result<Message, DropReason> {
        let packet = ArpPacket::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&packet).map_err(|_| DropReason::Protocol)?
        else {
            return Err(DropReason::Protocol);
        };
        let asks = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return Err(DropReason::Protocol),
        };
        Ok(Message {
            asks,
            sender: (source_hardware_addr, source_protocol_addr),
            target: (target_hardware_addr, target_protocol_addr),
        })
    }

    pub fn write(&self, buffer: &mut [u8]) {
        let repr = ArpRepr::EthernetIpv4 {
            operation: if self.asks { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: self.sender.0,
            source_protocol_addr: self.sender.1,
            target_hardware_addr: self.target.0,
            target_protocol_addr: self.target.1,
        };
        repr.emit(&mut ArpPacket::new_unchecked(buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = Message {
            asks: true,
            sender: (MacAddress([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1)),
            target: (MacAddress([0; 6]), Ipv4Addr::new(10, 0, 0, 2)),
        };
        let mut bytes = [0; LEN];
        message.write(&mut bytes);
        assert_eq!(Message::parse(&bytes), Ok(message));
        bytes[7] = 3;
        assert_eq!(Message::parse(&bytes), Err(DropReason::Protocol), "RARP");
        for length in 0..LEN {
            assert_eq!(Message::parse(&bytes[..length]), Err(DropReason::Malformed), "{length}");
        }
    }
}
