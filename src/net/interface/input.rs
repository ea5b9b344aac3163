//! Received frames.

use std::ops::Range;

use dst_tcp::{Datagram, Payload};
use smoltcp::wire::{EthernetProtocol, IpProtocol};

use crate::counters::DropReason;
use crate::ethernet;
use crate::familiar::{Familiar, FamiliarPacket};
use crate::icmp::{Problem, Report};
use crate::ip::{self, Packet};
use crate::mutation::{Mutation, is_on};

use super::{Interface, Verified};

impl<F: AsRef<[u8]>, B: Payload + AsRef<[u8]>> Interface<F, B> {
    /// Handles a received frame, without its check sequence. HOT.
    // As a call, it takes 40 instructions more, which move the frame.
    #[inline(always)]
    pub fn receive(&mut self, frame: F, verified: Verified, now: u64) {
        let counters = &mut self.link.counters;
        counters.received += 1;
        counters.received_bytes += frame.as_ref().len() as u64;
        let familiar = self.familiar.as_ref().and_then(|known| known.packet(frame.as_ref(), !verified.ipv4));
        if let Some(FamiliarPacket { source, destination, payload: range }) = familiar {
            let (source, destination, is_verified) = (source.into(), destination.into(), verified.tcp);
            return self.tcp.receive(Datagram { source, destination, frame, range, is_verified }, now);
        }
        match self.input(frame.as_ref(), verified, now) {
            Ok(None) => {}
            Ok(Some(Packet { source, destination, payload: range, .. })) => {
                let is_verified = verified.tcp;
                self.familiar = Familiar::new(frame.as_ref(), range.start);
                self.tcp.receive(Datagram { source, destination, frame, range, is_verified }, now);
            }
            Err(reason) => self.link.counters.drop(reason),
        }
    }

    /// Handles a received frame up to IP. Returns the packet if it is TCP's.
    fn input(&mut self, bytes: &[u8], verified: Verified, now: u64) -> Result<Option<Packet>, DropReason> {
        let frame = ethernet::parse(bytes, self.link.writer.vlan)?;
        self.link.check_frame(&frame)?;
        let packet = match frame.ethertype {
            EthernetProtocol::Ipv4 => ip::parse_v4(bytes, frame.payload, !verified.ipv4)?,
            EthernetProtocol::Ipv6 => ip::parse_v6(bytes, frame.payload)?,
            EthernetProtocol::Arp => {
                self.link.arp(&bytes[frame.payload..], now)?;
                return Ok(None);
            }
            EthernetProtocol::Unknown(_) => return Err(DropReason::Protocol),
        };
        let Range { start, end } = packet.payload;
        let payload = &bytes[start..end];
        let report = match (frame.ethertype, packet.protocol) {
            (_, IpProtocol::Tcp) => {
                self.link.check(&packet, &frame)?;
                return Ok(Some(packet));
            }
            (EthernetProtocol::Ipv4, IpProtocol::Icmp) => self.link.icmp(payload, &frame, &packet, now)?,
            (EthernetProtocol::Ipv6, IpProtocol::Icmpv6) => {
                self.link.icmpv6(payload, &frame, &packet, now)?
            }
            _ => return Err(DropReason::Protocol),
        };
        if let Some(report) = report {
            self.report(report, now);
        }
        Ok(None)
    }

    /// Tells TCP what an ICMP error reports. TCP checks that the segment is in flight (RFC 5927,
    /// 4).
    fn report(&mut self, report: Report, now: u64) {
        let Report { local, remote, seq, problem } = report;
        self.link.counters.icmp_errors += 1;
        match problem {
            Problem::TooBig { .. } if is_on(Mutation::NoTooBig) => {}
            Problem::TooBig { most } => self.tcp.too_big(local, remote, seq, most, now),
            Problem::Refused => self.tcp.unreachable(local, remote, Some(seq), now),
            // RFC 1122, 4.2.3.9: this may be temporary, so TCP carries on.
            Problem::Unreachable => {}
        }
    }
}
