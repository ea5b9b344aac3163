//! One interface, with the test as all other hosts on its Ethernet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dst_net::{Config, Interface, MacAddress, NetEvent, Prefix, Route, Verified};
use dst_tcp::{ConnectionId, Event, Payload, Reason, Secret};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
    RawHardwareAddress, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// Data to be sent, as a shared buffer.
#[derive(Debug)]
pub struct Bytes(pub Vec<u8>);

impl Payload for Bytes {
    fn size(&self) -> usize {
        self.0.len()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the link-layer address of a host: `02:00:00:00:00:` and the number.
pub fn mac(host: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, host])
}

/// Returns an address in its text form.
pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// An interface with the addresses 10.0.0.1/24 and fd00::1/64, and three routes beyond: through
/// 10.0.0.254, for 10.9.0.0/16 through 10.0.0.253, and through fe80::fe.
pub struct Lab {
    /// The interface under test.
    pub interface: Interface<Vec<u8>, Bytes>,
    /// The time, in microseconds.
    pub now: u64,
    /// The events of the interface.
    pub told: Vec<NetEvent>,
    /// Connections that have ended.
    pub closed: Vec<(ConnectionId, Reason)>,
    /// The next sequence number of the interface after the last segment seen, and the sequence
    /// number that the segment acknowledged.
    pub last: (u32, u32),
    /// The two endpoints of the last segment seen.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

/// Returns the configuration of [`Lab`].
pub fn config() -> Config {
    let addresses = vec![Prefix::new(ip("10.0.0.1"), 24), Prefix::new(ip("fd00::1"), 64)];
    let route = |prefix: &str, length, gateway| Route {
        destination: Prefix::new(ip(prefix), length),
        gateway: ip(gateway),
    };
    let mut config = Config::new(mac(1), addresses);
    config.detect_duplicates = false;
    config.routes = vec![
        route("0.0.0.0", 0, "10.0.0.254"),
        route("10.9.0.0", 16, "10.0.0.253"),
        route("::", 0, "fe80::fe"),
    ];
    config
}

impl Lab {
    /// Returns an interface with this configuration.
    pub fn new(config: Config) -> Lab {
        let now = 1_000_000;
        let interface = Interface::new(config, Secret([1; 16]), now).expect("the settings are right");
        Lab { interface, now, told: Vec::new(), closed: Vec::new(), last: (0, 0), ends: None }
    }

    /// Returns an interface that has announced its addresses.
    pub fn quiet() -> Lab {
        let mut lab = Lab::new(config());
        lab.wait(10_000_000);
        lab
    }

    fn take_events(&mut self) {
        self.told.extend(std::iter::from_fn(|| self.interface.event()));
        while let Some(event) = self.interface.tcp().event() {
            if let Event::Closed(id, reason) = event {
                self.closed.push((id, reason));
            }
        }
    }

    /// Passes a frame to the interface.
    pub fn receive(&mut self, frame: Vec<u8>) {
        self.interface.receive(frame, Verified::default(), self.now);
        self.take_events();
    }

    /// Returns what the interface sends now, in tcpdump's notation. Each line ends with the last
    /// byte of the destination's link-layer address, or `*` for broadcast and multicast.
    pub fn sent(&mut self) -> Vec<String> {
        let mut frames = Vec::new();
        self.interface.transmit(self.now, usize::MAX, |frame| {
            let mut bytes = vec![0; frame.frame_len()];
            frame.write(&mut bytes);
            frames.push(bytes);
        });
        self.take_events();
        frames.iter().map(|frame| self.print(frame)).collect()
    }

    /// Lets time pass. Returns what the interface sends, each with the milliseconds that have
    /// passed by then.
    pub fn wait(&mut self, time: u64) -> Vec<(u64, String)> {
        let (from, mut sent) = (self.now, Vec::new());
        loop {
            sent.extend(self.sent().into_iter().map(|text| ((self.now - from) / 1000, text)));
            match self.interface.deadline() {
                Some(at) if at <= from + time => self.now = self.now.max(at),
                _ => break,
            }
            self.interface.on_time(self.now);
            self.take_events();
        }
        self.now = from + time;
        sent
    }

    fn print(&mut self, bytes: &[u8]) -> String {
        let frame = EthernetFrame::new_checked(bytes).expect("it is well-formed");
        let text = match frame.ethertype() {
            EthernetProtocol::Arp => print_arp(frame.payload()),
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload()).expect("it is well-formed");
                assert!(packet.verify_checksum() && packet.dont_frag());
                let ends = (packet.src_addr().into(), packet.dst_addr().into());
                self.print_ip(ends, packet.next_header(), packet.hop_limit(), packet.payload())
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload()).expect("it is well-formed");
                let ends = (packet.src_addr().into(), packet.dst_addr().into());
                self.print_ip(ends, packet.next_header(), packet.hop_limit(), packet.payload())
            }
            other => panic!("{other}"),
        };
        assert_eq!(frame.src_addr(), mac(1));
        let to = frame.dst_addr();
        if to.is_unicast() { format!("{text} to {:x}", to.0[5]) } else { format!("{text} to *") }
    }

    fn print_ip(
        &mut self,
        (source, destination): (IpAddr, IpAddr),
        protocol: IpProtocol,
        hop_limit: u8,
        payload: &[u8],
    ) -> String {
        match protocol {
            IpProtocol::Icmp => {
                let packet = Icmpv4Packet::new_checked(payload).expect("it is well-formed");
                assert!(packet.verify_checksum());
                format!("{} {source} > {destination} len {}", packet.msg_type(), packet.data().len())
            }
            IpProtocol::Icmpv6 => {
                let packet = Icmpv6Packet::new_checked(payload).expect("it is well-formed");
                let (IpAddr::V6(from), IpAddr::V6(to)) = (source, destination) else { panic!("{source}") };
                assert!(packet.verify_checksum(&from, &to));
                if !packet.msg_type().is_ndisc() {
                    return format!(
                        "{} {source} > {destination} len {}",
                        packet.msg_type(),
                        packet.payload().len()
                    );
                }
                assert_eq!(hop_limit, 255);
                match NdiscRepr::parse(&packet).expect("it is well-formed") {
                    NdiscRepr::NeighborSolicit { target_addr, .. } => {
                        format!("who-has {target_addr} tell {source}")
                    }
                    NdiscRepr::NeighborAdvert { target_addr, flags, lladdr } => {
                        assert!(flags.contains(NdiscNeighborFlags::OVERRIDE));
                        let mac = lladdr.expect("it says so").as_bytes()[5];
                        let asked = flags.contains(NdiscNeighborFlags::SOLICITED);
                        format!("{target_addr} is-at {mac:x}{}", if asked { "" } else { ", all" })
                    }
                    other => panic!("{other:?}"),
                }
            }
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(payload).expect("it is well-formed");
                assert!(tcp.verify_checksum(&source.into(), &destination.into()));
                let seq = tcp.seq_number().0.cast_unsigned();
                self.last = (seq.wrapping_add(tcp.segment_len() as u32), tcp.ack_number().0.cast_unsigned());
                self.ends = Some((
                    SocketAddr::new(source, tcp.src_port()),
                    SocketAddr::new(destination, tcp.dst_port()),
                ));
                let flags = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.ack(), '.')];
                let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
                format!("{flags} {source} > {destination} len {}", tcp.payload().len())
            }
            other => panic!("{other}"),
        }
    }

    /// Sends an ARP message from a host to all hosts, or to the interface.
    pub fn arp(&mut self, asks: bool, sender: (u8, &str), target: &str, to_all: bool) {
        let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("an IPv4 address");
        let repr = ArpRepr::EthernetIpv4 {
            operation: if asks { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: mac(sender.0),
            source_protocol_addr: v4(sender.1),
            target_hardware_addr: if asks { MacAddress([0; 6]) } else { mac(1) },
            target_protocol_addr: v4(target),
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut ArpPacket::new_unchecked(&mut bytes));
        let to = if to_all { MacAddress::BROADCAST } else { mac(1) };
        self.receive(frame(mac(sender.0), to, EthernetProtocol::Arp, &bytes));
    }

    /// Answers the interface's ARP question from a host.
    pub fn arp_answer(&mut self, host: u8, address: &str) {
        self.arp(false, (host, address), "10.0.0.1", false);
    }

    /// Sends a message of neighbour discovery from a host. With a `hop_limit` of 255, no router has
    /// forwarded the message.
    pub fn ndisc(
        &mut self,
        host: u8,
        (source, destination): (&str, &str),
        hop_limit: u8,
        repr: NdiscRepr<'_>,
    ) {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().expect("an IPv6 address");
        let (source, destination) = (v6(source), v6(destination));
        let mut bytes = vec![0; repr.buffer_len()];
        let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
        repr.emit(&mut packet);
        packet.fill_checksum(&source, &destination);
        self.packet(host, source.into(), destination.into(), IpProtocol::Icmpv6, hop_limit, &bytes);
    }

    /// Sends an IP packet from a host to the interface's link-layer address, or to a group's.
    pub fn packet(
        &mut self,
        host: u8,
        source: IpAddr,
        destination: IpAddr,
        protocol: IpProtocol,
        hop_limit: u8,
        payload: &[u8],
    ) {
        let to = match destination {
            IpAddr::V6(v6) if v6.is_multicast() => {
                let [.., a, b, c, d] = v6.octets();
                MacAddress([0x33, 0x33, a, b, c, d])
            }
            _ => mac(1),
        };
        let bytes = packet(source, destination, protocol, hop_limit, payload);
        self.receive(frame(mac(host), to, ethertype(source), &bytes));
    }

    /// Sends a message of ICMP or ICMPv6 from a host. `head` is the type, the code, and the four
    /// bytes after the checksum; `rest` is what follows.
    pub fn icmp(&mut self, host: u8, (source, destination): (&str, &str), head: [u8; 6], rest: &[u8]) {
        let (source, destination) = (ip(source), ip(destination));
        let [kind, code, word @ ..] = head;
        let mut bytes = [&[kind, code, 0, 0][..], &word, rest].concat();
        let protocol = match (source, destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Icmpv6Packet::new_unchecked(&mut bytes[..]).fill_checksum(&source, &destination);
                IpProtocol::Icmpv6
            }
            _ => {
                Icmpv4Packet::new_unchecked(&mut bytes[..]).fill_checksum();
                IpProtocol::Icmp
            }
        };
        self.packet(host, source, destination, protocol, 64, &bytes);
    }

    /// Returns the beginning of a packet from the interface, as ICMP errors quote it.
    pub fn quote(&self, source: &str, destination: &str, seq: u32) -> Vec<u8> {
        let (local, remote) = self.ends.expect("it has sent a segment");
        let ports = [local.port().to_be_bytes(), remote.port().to_be_bytes()].concat();
        let mut tcp = [ports, seq.to_be_bytes().to_vec(), vec![0; 12]].concat();
        tcp[12] = 0x50;
        packet(ip(source), ip(destination), IpProtocol::Tcp, 60, &tcp)
    }

    /// Starts to connect.
    pub fn connect(&mut self, remote: &str) -> ConnectionId {
        self.interface.connect(SocketAddr::new(ip(remote), 4460), self.now).expect("it is reachable")
    }

    /// Sends a segment from the peer of the last segment seen, which acknowledges everything.
    pub fn segment(&mut self, host: u8, control: TcpControl, data: &[u8]) {
        let (local, remote) = self.ends.expect("it has sent a segment");
        let repr = TcpRepr {
            src_port: remote.port(),
            dst_port: local.port(),
            control,
            seq_number: TcpSeqNumber(self.last.1.cast_signed()),
            ack_number: (self.last.0 != 0).then(|| TcpSeqNumber(self.last.0.cast_signed())),
            window_len: 0xffff,
            window_scale: None,
            max_seg_size: (control == TcpControl::Syn).then_some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: data,
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(
            &mut TcpPacket::new_unchecked(&mut bytes[..]),
            &remote.ip().into(),
            &local.ip().into(),
            &ChecksumCapabilities::default(),
        );
        self.packet(host, remote.ip(), local.ip(), IpProtocol::Tcp, 64, &bytes);
    }

    /// Sends a SYN from a host to the interface's port 4460.
    pub fn syn(&mut self, host: u8, source: &str, destination: &str) {
        self.ends = Some((SocketAddr::new(ip(destination), 4460), SocketAddr::new(ip(source), 77)));
        self.segment(host, TcpControl::Syn, &[]);
    }

    /// Opens a connection to a neighbour.
    pub fn open(&mut self, host: u8, remote: &str) -> ConnectionId {
        let id = self.connect(remote);
        self.sent();
        if ip(remote).is_ipv4() {
            self.arp_answer(host, remote);
        } else {
            self.ndisc(host, (remote, "fd00::1"), 255, advert(remote, host, true, true));
        }
        assert_eq!(self.sent().len(), 1, "the SYN");
        self.segment(host, TcpControl::Syn, &[]);
        assert_eq!(self.sent().len(), 1, "the ACK");
        id
    }
}

fn print_arp(bytes: &[u8]) -> String {
    let packet = ArpPacket::new_checked(bytes).expect("it is well-formed");
    match ArpRepr::parse(&packet).expect("it is well-formed") {
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } => format!("who-has {target_protocol_addr} tell {source_protocol_addr}"),
        ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } => {
            format!("{source_protocol_addr} is-at {:x}", source_hardware_addr.0[5])
        }
        other => panic!("{other:?}"),
    }
}

/// Returns the EtherType for an address.
fn ethertype(address: IpAddr) -> EthernetProtocol {
    if address.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 }
}

/// Returns an Ethernet frame.
pub fn frame(
    source: MacAddress,
    destination: MacAddress,
    ethertype: EthernetProtocol,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; 14];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(source);
    frame.set_dst_addr(destination);
    frame.set_ethertype(ethertype);
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns an IP packet.
pub fn packet(
    source: IpAddr,
    destination: IpAddr,
    next_header: IpProtocol,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let payload_len = payload.len();
    let mut bytes = match (source, destination) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &ChecksumCapabilities::default());
            bytes
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
            bytes
        }
        _ => panic!("{source} > {destination}"),
    };
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns a neighbour advertisement.
pub fn advert(target: &str, host: u8, answers: bool, replaces: bool) -> NdiscRepr<'static> {
    let flag = |set: bool, flag| if set { flag } else { NdiscNeighborFlags::empty() };
    NdiscRepr::NeighborAdvert {
        flags: flag(answers, NdiscNeighborFlags::SOLICITED) | flag(replaces, NdiscNeighborFlags::OVERRIDE),
        target_addr: target.parse().expect("an IPv6 address"),
        lladdr: Some(RawHardwareAddress::from_bytes(&mac(host).0)),
    }
}

/// Returns a neighbour solicitation, with the link-layer address of the host that asks, if given.
pub fn solicit(target: &str, host: Option<u8>) -> NdiscRepr<'static> {
    NdiscRepr::NeighborSolicit {
        target_addr: target.parse().expect("an IPv6 address"),
        lladdr: host.map(|host| RawHardwareAddress::from_bytes(&mac(host).0)),
    }
}
