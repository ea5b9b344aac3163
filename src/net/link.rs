//! Everything below TCP: addresses, neighbours, routes, and frames that wait.

mod respond;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dst_tcp::{Outgoing, Payload, Secret};
use smoltcp::wire::{EthernetAddress as MacAddress, EthernetProtocol, IpProtocol};

use crate::addresses::{self, Addresses};
use crate::arp;
use crate::config::{Config, MAX_ADDRESSES, Offloads, is_host, is_host_mac};
use crate::counters::{Counters, DropReason};
use crate::ethernet::{self, Writer};
use crate::event::NetEvent;
use crate::frame::{Body, Frame, MAX_HEADERS, Segment};
use crate::ip::{self, NDISC_HOP_LIMIT};
use crate::limiter::Limiter;
use crate::mutation::{Mutation, is_on};
use crate::ndisc::{self, ALL_NODES};
use crate::neighbours::{self, Behalf, Hop, Neighbours};
use crate::outbox::Outbox;
use crate::prefix::Prefix;
use crate::routes::Routes;

/// The maximum number of events that wait for the user: for each address, that it is usable or a
/// duplicate. Further events are dropped.
const MAX_EVENTS: usize = 4 * MAX_ADDRESSES;

/// The next hop of the last segment.
#[derive(Debug, Clone, Copy)]
struct Last {
    destination: IpAddr,
    mac: MacAddress,
    until: u64,
    version: u64,
}

/// Everything below TCP.
#[derive(Debug)]
pub(crate) struct Link {
    pub writer: Writer,
    mtu: usize,
    offloads: Offloads,
    pub addresses: Addresses,
    /// Whether this link answers for the addresses: of several shards, only the first one does.
    answers: bool,
    pub routes: Routes,
    pub neighbours: Neighbours,
    pub outbox: Outbox,
    echo: Limiter,
    pub events: VecDeque<NetEvent>,
    pub counters: Counters,
    last: Option<Last>,
}

/// Returns the link-local address that is derived from a MAC address (RFC 4291, appendix A).
fn link_local(mac: MacAddress) -> Prefix {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high, low| u16::from_be_bytes([high, low]);
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f));
    Prefix::new(address, 64)
}

impl Link {
    /// Returns a link with these settings, which must have been checked.
    pub fn new(config: &Config, secret: Secret, now: u64) -> Link {
        let mut prefixes = config.addresses.clone();
        let has_link_local = prefixes.iter().any(|prefix| crate::config::is_link_local(prefix.address));
        if config.has_ipv6() && !has_link_local {
            prefixes.push(link_local(config.mac));
        }
        let writer = Writer { mac: config.mac, vlan: config.vlan };
        let mtu = usize::from(config.mtu);
        Link {
            writer,
            mtu,
            offloads: config.offloads,
            addresses: Addresses::new(&prefixes, config, now),
            answers: config.shard.is_first(),
            routes: Routes::new(&prefixes, &config.routes),
            neighbours: Neighbours::new(config, secret),
            outbox: Outbox::new(writer.len() + mtu, config),
            echo: Limiter::new(config.echo_rate, now),
            events: VecDeque::with_capacity(MAX_EVENTS),
            counters: Counters::default(),
            last: None,
        }
    }

    /// Returns true if an address can be that of another host: a valid source of received packets.
    pub fn is_source(&self, address: IpAddr) -> bool {
        is_host(address) && !self.addresses.is_own(address) && !self.routes.is_broadcast(address)
    }

    /// Checks that a packet is from another host and for a usable address of this interface.
    pub fn check(&self, packet: &ip::Packet, frame: &ethernet::Header) -> Result<(), DropReason> {
        if frame.destination != self.writer.mac || !self.addresses.is_usable(packet.destination) {
            return Err(DropReason::NotForUs);
        }
        if self.is_source(packet.source) { Ok(()) } else { Err(DropReason::Source) }
    }

    /// Checks the header of a received frame.
    pub fn check_frame(&self, frame: &ethernet::Header) -> Result<(), DropReason> {
        if frame.source == self.writer.mac {
            return Err(DropReason::OwnFrame);
        }
        if !is_host_mac(frame.source) {
            return Err(DropReason::Malformed);
        }
        let is_for_us = match frame.ethertype {
            EthernetProtocol::Arp => frame.destination.is_broadcast(),
            EthernetProtocol::Ipv6 => frame.destination.is_multicast(),
            _ => false,
        };
        if is_for_us || frame.destination == self.writer.mac { Ok(()) } else { Err(DropReason::NotForUs) }
    }

    /// Returns the next hop of a packet, and where frames to it go.
    fn hop(&mut self, destination: IpAddr, behalf: Behalf, now: u64) -> Result<(IpAddr, Hop), DropReason> {
        if let Some(last) = self.last
            && last.destination == destination
            && last.version == self.neighbours.version
            && now < last.until
        {
            return Ok((destination, Hop::Known { mac: last.mac, until: last.until }));
        }
        let next_hop = self.routes.next_hop(destination).ok_or(DropReason::NoRoute)?;
        let hop = self.neighbours.hop(next_hop, behalf, now);
        self.last = match hop {
            Hop::Known { mac, until } => {
                Some(Last { destination, mac, until, version: self.neighbours.version })
            }
            _ => None,
        };
        Ok((next_hop, hop))
    }

    /// Sends a segment, queues it until its next hop's address is known, or drops it. `failed` gets
    /// the connection if its next hop does not answer. Fails with the reason if the segment was
    /// dropped.
    pub fn send<B: Payload + AsRef<[u8]>>(
        &mut self,
        outgoing: &Outgoing<'_, B>,
        now: u64,
        sink: &mut impl FnMut(&Frame<'_, B>),
        failed: &mut impl FnMut((SocketAddr, SocketAddr)),
    ) -> Result<(), DropReason> {
        let (local, remote) = (outgoing.local, outgoing.remote);
        if !self.addresses.is_usable(local.ip()) {
            return Err(DropReason::NoRoute);
        }
        let behalf = if outgoing.answers_stranger() { Behalf::Stranger } else { Behalf::Own };
        let (next_hop, hop) = self.hop(remote.ip(), behalf, now)?;
        match hop {
            Hop::Known { mac, .. } => {
                self.send_to(mac, outgoing, sink);
                Ok(())
            }
            Hop::Asked => {
                outgoing.cut(|part, _| {
                    if let Err(reason) = self.wait(next_hop, part) {
                        self.counters.drop(reason);
                    }
                });
                Ok(())
            }
            Hop::Failed => {
                failed((local, remote));
                Err(DropReason::NeighbourFailed)
            }
            Hop::Full => Err(DropReason::NeighboursFull),
        }
    }

    /// Hands a segment to `sink`, cut into frames unless the port cuts it.
    fn send_to<B: Payload + AsRef<[u8]>>(
        &mut self,
        mac: MacAddress,
        outgoing: &Outgoing<'_, B>,
        sink: &mut impl FnMut(&Frame<'_, B>),
    ) {
        let Link { writer, offloads, counters, .. } = self;
        let mut send = |segment: Segment<'_, B>| {
            counters.sent += 1;
            counters.sent_bytes += segment.frame_len() as u64;
            sink(&Frame(Body::Segment(segment)));
        };
        let whole = Segment { writer: *writer, mac, offloads: *offloads, outgoing, headers: None };
        if offloads.segmentation || outgoing.payload_len <= outgoing.mss {
            return send(whole);
        }
        let (mut headers, mut written) = ([0; MAX_HEADERS], 0);
        outgoing.cut(|part, is_last| {
            let segment = Segment { outgoing: part, ..whole };
            if written == 0 {
                written = segment.header_len();
                segment.write_header(&mut headers[..written]);
            }
            // The last one may be shorter, and has flags.
            let headers = (!is_last).then_some(&headers[..written]);
            send(Segment { headers, ..segment });
        });
    }

    /// Queues a segment until the address of its next hop is known. Fails with the reason if there
    /// is no room.
    fn wait<B: Payload + AsRef<[u8]>>(
        &mut self,
        next_hop: IpAddr,
        outgoing: &Outgoing<'_, B>,
    ) -> Result<(), DropReason> {
        // The frame must be complete, since the port is told nothing about a frame that has waited.
        let (mac, offloads) = (MacAddress([0; 6]), Offloads::default());
        let segment = Segment { writer: self.writer, mac, offloads, outgoing, headers: None };
        let (len, ends) = (segment.frame_len(), (outgoing.local, outgoing.remote));
        if len > self.outbox.longest() {
            return Err(DropReason::TooLong);
        }
        let fits = !is_on(Mutation::NoWaiting)
            && self.outbox.wait(next_hop, ends, len, |buffer| segment.complete(buffer));
        if fits { Ok(()) } else { Err(DropReason::WaitingFull) }
    }

    /// Hands up to `budget` whole frames to `sink`. Returns the number of frames.
    pub fn flush<B>(&mut self, budget: usize, sink: &mut impl FnMut(&Frame<'_, B>)) -> usize {
        let mut count = 0;
        while count < budget
            && let Some(len) = self.outbox.send(|bytes| sink(&Frame(Body::Whole(bytes))))
        {
            count += 1;
            self.counters.sent += 1;
            self.counters.sent_bytes += len as u64;
        }
        count
    }

    /// Does what is due. `failed` gets the connections whose next hop does not answer.
    pub fn on_time(&mut self, now: u64, failed: &mut impl FnMut((SocketAddr, SocketAddr))) {
        let Link { writer, addresses, neighbours, outbox, events, counters, .. } = self;
        let mut tell = |event| note(events, event);
        let mut send = |due| {
            let sent = match due {
                addresses::Due::Probe(IpAddr::V4(own)) => {
                    let target = (MacAddress([0; 6]), own);
                    let sender = (writer.mac, std::net::Ipv4Addr::UNSPECIFIED);
                    let message = arp::Message { asks: true, sender, target };
                    write_arp(outbox, *writer, MacAddress::BROADCAST, message)
                }
                addresses::Due::Probe(IpAddr::V6(own)) => {
                    let message = ndisc::Message::Solicit { target: own, sender: None };
                    let group = ndisc::solicited_node(own);
                    let mac = ethernet::multicast(group);
                    write_ndisc(outbox, *writer, mac, (Ipv6Addr::UNSPECIFIED, group), message)
                }
                addresses::Due::Announce(own) => write_announcement(outbox, *writer, own),
            };
            if !sent {
                counters.drop(DropReason::AnswersFull);
            }
            sent
        };
        addresses.on_time(now, &mut send, &mut tell);
        neighbours.on_time(now, &mut |due| match due {
            neighbours::Due::Ask(address, mac) => {
                counters.asked += 1;
                if !write_question(outbox, *writer, addresses.source_for(address), address, mac) {
                    counters.drop(DropReason::AnswersFull);
                }
            }
            neighbours::Due::Failed(address) => {
                counters.failed += 1;
                while let Some(ends) = outbox.failed(address) {
                    counters.drop(DropReason::NeighbourFailed);
                    failed(ends);
                }
            }
        });
    }

    /// Returns the time at which [`Link::on_time`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        [self.addresses.deadline(), self.neighbours.deadline()].into_iter().flatten().min()
    }
}

/// Keeps an event for the user, unless too many wait.
fn note(events: &mut VecDeque<NetEvent>, event: NetEvent) {
    if events.len() < MAX_EVENTS {
        events.push_back(event);
    }
}

/// Queues an ARP message. Returns false if there is no room.
fn write_arp(outbox: &mut Outbox, writer: Writer, mac: MacAddress, message: arp::Message) -> bool {
    outbox.answer(writer.len() + arp::LEN, |buffer| {
        message.write(writer.write(buffer, mac, EthernetProtocol::Arp));
    })
}

/// Queues a message of neighbour discovery. Returns false if there is no room.
fn write_ndisc(
    outbox: &mut Outbox,
    writer: Writer,
    mac: MacAddress,
    (source, destination): (Ipv6Addr, Ipv6Addr),
    message: ndisc::Message,
) -> bool {
    let header = ip::Header {
        source: source.into(),
        destination: destination.into(),
        protocol: IpProtocol::Icmpv6,
        hop_limit: NDISC_HOP_LIMIT,
        payload_len: message.len(),
    };
    outbox.answer(writer.len() + ip::header_len(header.source) + message.len(), |buffer| {
        let rest = writer.write(buffer, mac, EthernetProtocol::Ipv6);
        message.write(header.write(rest, true), source, destination);
    })
}

/// Queues the announcement of one of the interface's addresses (RFC 5227, 3; RFC 4861, 7.2.6).
/// Returns false if there is no room.
fn write_announcement(outbox: &mut Outbox, writer: Writer, own: IpAddr) -> bool {
    match own {
        IpAddr::V4(own) => {
            let target = (MacAddress([0; 6]), own);
            let message = arp::Message { asks: true, sender: (writer.mac, own), target };
            write_arp(outbox, writer, MacAddress::BROADCAST, message)
        }
        IpAddr::V6(own) => {
            let mac = Some(writer.mac);
            let message = ndisc::Message::Advertise { target: own, mac, answers: false, replaces: true };
            write_ndisc(outbox, writer, ethernet::multicast(ALL_NODES), (own, ALL_NODES), message)
        }
    }
}

/// Queues the question for a neighbour, to all hosts or to one link-layer address. Returns false if
/// there is no room. Without an address to ask from, no question is queued.
fn write_question(
    outbox: &mut Outbox,
    writer: Writer,
    source: Option<IpAddr>,
    address: IpAddr,
    mac: Option<MacAddress>,
) -> bool {
    match (source, address) {
        (Some(IpAddr::V4(source)), IpAddr::V4(address)) => {
            let target = (MacAddress([0; 6]), address);
            let message = arp::Message { asks: true, sender: (writer.mac, source), target };
            write_arp(outbox, writer, mac.unwrap_or(MacAddress::BROADCAST), message)
        }
        (Some(IpAddr::V6(source)), IpAddr::V6(address)) => {
            let message = ndisc::Message::Solicit { target: address, sender: Some(writer.mac) };
            let group = ndisc::solicited_node(address);
            let (mac, destination) = match mac {
                Some(mac) => (mac, address),
                None => (ethernet::multicast(group), group),
            };
            write_ndisc(outbox, writer, mac, (source, destination), message)
        }
        _ => true,
    }
}
