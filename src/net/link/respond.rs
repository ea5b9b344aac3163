//! The messages that are answered without TCP: ARP, neighbour discovery, echo requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{
    EthernetAddress as MacAddress, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol,
};

use crate::arp;
use crate::config::is_host_mac;
use crate::counters::DropReason;
use crate::ethernet::{Header, ethertype, multicast};
use crate::icmp::{self, Report};
use crate::ip::{self, HOP_LIMIT, NDISC_HOP_LIMIT, Packet};
use crate::mutation::{Mutation, is_on};
use crate::ndisc::{self, ALL_NODES};
use crate::neighbours::Evidence;

use super::{Link, note, write_announcement, write_arp, write_ndisc};

/// Returns an error if an answer found no room.
fn full(sent: bool) -> Result<(), DropReason> {
    if sent { Ok(()) } else { Err(DropReason::AnswersFull) }
}

impl Link {
    /// Handles an ARP message (RFC 826, RFC 5227).
    pub fn arp(&mut self, bytes: &[u8], now: u64) -> Result<(), DropReason> {
        let message = arp::Message::parse(bytes)?;
        let (mac, sender) = (message.sender.0, IpAddr::V4(message.sender.1));
        let target = IpAddr::V4(message.target.1);
        if !is_host_mac(mac) || mac == self.writer.mac {
            return Err(DropReason::Untrusted);
        }
        if message.sender.1 == Ipv4Addr::UNSPECIFIED && message.asks {
            self.claim(target, mac, true, now)?;
            return self.answer_arp(message);
        }
        if self.addresses.is_own(sender) {
            return self.claim(sender, mac, false, now);
        }
        if !self.is_source(sender) || !self.routes.is_on_link(sender) {
            return Err(DropReason::Untrusted);
        }
        let is_to_us = self.addresses.is_usable(target);
        // If two hosts answer, the first answer counts.
        if !self.neighbours.is_fresh(sender, now) {
            let (creates, answers) = (message.asks && is_to_us, !message.asks && is_to_us);
            self.learn(sender, mac, Evidence { creates, answers, replaces: true }, now);
        }
        if message.asks { self.answer_arp(message) } else { Ok(()) }
    }

    /// Answers a question for a usable address of this interface.
    fn answer_arp(&mut self, question: arp::Message) -> Result<(), DropReason> {
        let own = question.target.1;
        if !self.answers || !self.addresses.is_usable(own.into()) {
            return Ok(());
        }
        let (mac, sender) = (question.sender.0, (self.writer.mac, own));
        let message = arp::Message { asks: false, sender, target: question.sender };
        full(write_arp(&mut self.outbox, self.writer, mac, message))
    }

    /// Handles another host's claim to an address of this interface, or its question whether the
    /// address is free (`probes`).
    fn claim(&mut self, own: IpAddr, mac: MacAddress, probes: bool, now: u64) -> Result<(), DropReason> {
        if !self.answers || !self.addresses.is_own(own) {
            return Ok(());
        }
        self.counters.conflicts += 1;
        let events = &mut self.events;
        let defends = self.addresses.on_claim(own, mac, probes, now, &mut |event| note(events, event));
        full(!defends || write_announcement(&mut self.outbox, self.writer, own))
    }

    fn learn(&mut self, address: IpAddr, mac: MacAddress, evidence: Evidence, now: u64) {
        if self.neighbours.learn(address, mac, evidence, now) {
            self.outbox.resolved(address, mac);
        }
    }

    /// Handles an ICMP message. Returns what the message reports to TCP, if anything.
    pub fn icmp(
        &mut self,
        bytes: &[u8],
        frame: &Header,
        packet: &Packet,
        now: u64,
    ) -> Result<Option<Report>, DropReason> {
        self.check(packet, frame)?;
        let message = Icmpv4Packet::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        if bytes.len() < icmp::HEADER_LEN {
            return Err(DropReason::Malformed);
        }
        if !message.verify_checksum() {
            return Err(DropReason::Checksum);
        }
        match message.msg_type() {
            Icmpv4Message::EchoRequest => self.echo(bytes, frame, packet, now).map(|()| None),
            _ => icmp::report_v4(&message, packet.destination).map(Some),
        }
    }

    /// Handles an ICMPv6 message. Returns what the message reports to TCP, if anything.
    pub fn icmpv6(
        &mut self,
        bytes: &[u8],
        frame: &Header,
        packet: &Packet,
        now: u64,
    ) -> Result<Option<Report>, DropReason> {
        let message = Icmpv6Packet::new_checked(bytes).map_err(|_| DropReason::Malformed)?;
        let (source, destination) = (ip::v6(packet.source), ip::v6(packet.destination));
        if !message.verify_checksum(&source, &destination) {
            return Err(DropReason::Checksum);
        }
        match message.msg_type() {
            Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert => {
                if packet.hop_limit != NDISC_HOP_LIMIT && !is_on(Mutation::NoHopLimitCheck) {
                    return Err(DropReason::Untrusted);
                }
                self.ndisc(&message, (source, destination), frame, now).map(|()| None)
            }
            Icmpv6Message::EchoRequest => {
                self.check(packet, frame)?;
                self.echo(bytes, frame, packet, now).map(|()| None)
            }
            _ => {
                self.check(packet, frame)?;
                icmp::report_v6(&message, packet.destination).map(Some)
            }
        }
    }

    /// Answers an echo request (RFC 1122, 3.2.2.6; RFC 4443, 4.2). The answer goes back to the
    /// link-layer address that the request came from, so that no neighbour has to be asked for.
    fn echo(&mut self, bytes: &[u8], frame: &Header, packet: &Packet, now: u64) -> Result<(), DropReason> {
        if !self.echo.take(now) && !is_on(Mutation::NoEchoLimit) {
            return Err(DropReason::EchoRate);
        }
        let (source, destination) = (packet.destination, packet.source);
        let header = ip::Header {
            source,
            destination,
            protocol: packet.protocol,
            hop_limit: HOP_LIMIT,
            payload_len: bytes.len(),
        };
        if ip::header_len(source) + bytes.len() > self.mtu {
            return Err(DropReason::TooLong);
        }
        let len = self.writer.len() + ip::header_len(source) + bytes.len();
        let writer = self.writer;
        full(self.outbox.answer(len, |buffer| {
            let rest = header.write(writer.write(buffer, frame.source, ethertype(source)), true);
            rest.copy_from_slice(bytes);
            if packet.protocol == IpProtocol::Icmp {
                let mut reply = Icmpv4Packet::new_unchecked(rest);
                reply.set_msg_type(Icmpv4Message::EchoReply);
                reply.set_msg_code(0);
                reply.fill_checksum();
            } else {
                let mut reply = Icmpv6Packet::new_unchecked(rest);
                reply.set_msg_type(Icmpv6Message::EchoReply);
                reply.set_msg_code(0);
                reply.fill_checksum(&ip::v6(source), &ip::v6(destination));
            }
        }))
    }

    /// Returns true if this interface listens to an IPv6 multicast address.
    fn is_group(&self, address: Ipv6Addr) -> bool {
        address == ALL_NODES || self.addresses.ipv6().any(|own| ndisc::solicited_node(own) == address)
    }

    /// Handles a message of neighbour discovery (RFC 4861, 7.2; RFC 4862, 5.4).
    fn ndisc(
        &mut self,
        packet: &Icmpv6Packet<&[u8]>,
        (source, destination): (Ipv6Addr, Ipv6Addr),
        frame: &Header,
        now: u64,
    ) -> Result<(), DropReason> {
        let is_for_us = if destination.is_multicast() {
            self.is_group(destination)
        } else {
            frame.destination == self.writer.mac && self.addresses.is_usable(destination.into())
        };
        if !is_for_us {
            return Err(DropReason::NotForUs);
        }
        match ndisc::Message::parse(packet)?.ok_or(DropReason::Protocol)? {
            ndisc::Message::Solicit { target, sender } if source.is_unspecified() => {
                if sender.is_some() || !destination.is_multicast() {
                    return Err(DropReason::Malformed);
                }
                self.claim(target.into(), frame.source, true, now)?;
                self.advertise(target, ALL_NODES, multicast(ALL_NODES), false)
            }
            ndisc::Message::Solicit { target, sender } => {
                self.check_neighbour(source, sender)?;
                if !self.addresses.is_usable(target.into()) {
                    return Err(DropReason::NotForUs);
                }
                if let Some(mac) = sender {
                    let evidence = Evidence { creates: true, answers: false, replaces: true };
                    self.learn(source.into(), mac, evidence, now);
                }
                self.advertise(target, source, sender.unwrap_or(frame.source), true)
            }
            ndisc::Message::Advertise { answers: true, .. } if destination.is_multicast() => {
                Err(DropReason::Malformed)
            }
            ndisc::Message::Advertise { target, mac, .. } if self.addresses.is_own(target.into()) => {
                self.claim(target.into(), mac.unwrap_or(frame.source), false, now)
            }
            ndisc::Message::Advertise { target, mac, answers, replaces } => {
                self.check_neighbour(target, mac)?;
                // The answer to a question that was sent to one link-layer address need not repeat
                // that address.
                if let Some(mac) = mac.or_else(|| self.neighbours.mac(target.into())) {
                    let evidence = Evidence { creates: false, answers, replaces };
                    self.learn(target.into(), mac, evidence, now);
                }
                Ok(())
            }
        }
    }

    /// Checks that a message can be about a neighbour.
    fn check_neighbour(&self, address: Ipv6Addr, mac: Option<MacAddress>) -> Result<(), DropReason> {
        let is_neighbour = self.is_source(address.into()) && self.routes.is_on_link(address.into());
        let is_credible = mac.is_none_or(|mac| is_host_mac(mac) && mac != self.writer.mac);
        if is_neighbour && is_credible { Ok(()) } else { Err(DropReason::Untrusted) }
    }

    /// Advertises an address of this interface, if it is usable.
    fn advertise(
        &mut self,
        own: Ipv6Addr,
        to: Ipv6Addr,
        mac: MacAddress,
        answers: bool,
    ) -> Result<(), DropReason> {
        if !self.answers || !self.addresses.is_usable(own.into()) {
            return Ok(());
        }
        let own_mac = Some(self.writer.mac);
        let message = ndisc::Message::Advertise { target: own, mac: own_mac, answers, replaces: true };
        full(write_ndisc(&mut self.outbox, self.writer, mac, (own, to), message))
    }
}
