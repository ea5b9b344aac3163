//! Once connections are warm, I/O allocates nothing; and nothing that strangers send allocates.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use dst_net::{Config, Interface, MacAddress, Prefix, Verified};
use dst_tcp::{ConnectionId, Event, Payload, Secret};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, Icmpv4Packet, IpProtocol, Ipv4Packet,
    Ipv4Repr,
};

/// A frame's bytes, as a network card's memory pool has them.
type Pool = Rc<RefCell<Vec<Box<[u8]>>>>;

struct Pooled {
    bytes: Option<Box<[u8]>>,
    length: usize,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| &bytes[..self.length])
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.borrow_mut().extend(self.bytes.take());
    }
}

static DATA: [u8; 4144] = [0x5a; 4144];

#[derive(Debug)]
struct Bytes(usize);

impl Payload for Bytes {
    fn size(&self) -> usize {
        self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &DATA[..self.0]
    }
}

const REQUEST: usize = 48;
const ANSWER: usize = 4144;

fn config(host: u8) -> Config {
    let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, host]), vec![Prefix::new([10, 0, 0, host], 16)]);
    config.detect_duplicates = false;
    config
}

struct Pair {
    now: u64,
    pool: Pool,
    hosts: [Interface<Pooled, Bytes>; 2],
    wire: [VecDeque<Pooled>; 2],
    progress: [usize; 2],
    ids: Vec<ConnectionId>,
    answers: u64,
}

impl Pair {
    fn new() -> Pair {
        let pool: Pool = Rc::default();
        pool.borrow_mut().extend((0..4_000).map(|_| vec![0; 1514].into_boxed_slice()));
        let host = |last: u8| Interface::new(config(last), Secret([last; 16]), 0).expect("valid");
        let mut pair = Pair {
            now: 1_000_000,
            pool,
            hosts: [host(1), host(2)],
            wire: [VecDeque::new(), VecDeque::new()],
            progress: [0; 2],
            ids: Vec::new(),
            answers: 0,
        };
        let address = SocketAddr::from(([10, 0, 0, 2], 4460));
        let listener = pair.hosts[1].tcp().listen(address, 1).expect("nothing listens yet");
        pair.ids.push(pair.hosts[0].connect(address, pair.now).expect("there is room"));
        while pair.ids.len() < 2 {
            pair.turn(20);
            let now = pair.now;
            pair.ids.extend(pair.hosts[1].tcp().accept(listener, now));
        }
        pair
    }

    /// Both hosts send and receive; the second one answers requests.
    fn turn(&mut self, time: u64) {
        self.now += time;
        for host in 0..2 {
            let (pool, wire) = (&self.pool, &mut self.wire[1 - host]);
            self.hosts[host].transmit(self.now, usize::MAX, |frame| {
                let mut bytes = pool.borrow_mut().pop().expect("the pool is large enough");
                let length = frame.write(&mut bytes);
                wire.push_back(Pooled { bytes: Some(bytes), length, pool: pool.clone() });
            });
        }
        for host in 0..2 {
            while let Some(frame) = self.wire[host].pop_front() {
                self.hosts[host].receive(frame, Verified::default(), self.now);
            }
            self.hosts[host].on_time(self.now);
            while let Some(event) = self.hosts[host].tcp().event() {
                if let Event::Readable(id) = event {
                    self.read(host, id);
                }
            }
        }
    }

    fn read(&mut self, host: usize, id: ConnectionId) {
        let size = [ANSWER, REQUEST][host];
        while let Some(chunk) = self.hosts[host].tcp().read(id, self.now) {
            self.progress[host] += chunk.range.len();
            while self.progress[host] >= size {
                self.progress[host] -= size;
                self.answers += u64::from(host == 0);
                let answer = Bytes([REQUEST, ANSWER][host]);
                self.hosts[host].tcp().send(id, answer).expect("there is room");
            }
        }
    }

    fn run(&mut self, answers: u64, time: u64) {
        let until = self.answers + answers;
        while self.answers < until {
            self.turn(time);
        }
    }
}

/// Neighbours are asked again meanwhile.
#[test]
fn io_allocates_nothing() {
    let mut pair = Pair::new();
    for _ in 0..64 {
        pair.hosts[0].tcp().send(pair.ids[0], Bytes(REQUEST)).expect("there is room");
    }
    pair.run(2_000, 20);
    let asked = pair.hosts[0].counters().asked;
    let count = allocation_counter::measure(|| {
        pair.run(1_000, 20);
        for _ in 0..20 {
            pair.turn(2_000_000);
        }
        pair.run(100, 20);
    });
    assert!(pair.hosts[0].counters().asked > asked, "nobody was asked");
    assert_eq!(count.count_total, 0);
}

fn frame(to_all: bool, source: u8, ethertype: EthernetProtocol, payload: &[u8]) -> Rc<[u8]> {
    let mut bytes = vec![0; 14];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(MacAddress([2, 0, 0, 0, 1, source]));
    frame.set_dst_addr(if to_all { MacAddress::BROADCAST } else { MacAddress([2, 0, 0, 0, 0, 1]) });
    frame.set_ethertype(ethertype);
    bytes.extend_from_slice(payload);
    bytes.into()
}

fn ip(source: [u8; 4], next_header: IpProtocol, payload: &[u8]) -> Rc<[u8]> {
    let (src_addr, dst_addr) = (source.into(), [10, 0, 0, 1].into());
    let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len: payload.len(), hop_limit: 64 };
    let mut bytes = vec![0; 20];
    repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &smoltcp::phy::ChecksumCapabilities::default());
    bytes.extend_from_slice(payload);
    frame(false, source[3], EthernetProtocol::Ipv4, &bytes)
}

/// ARP of 3,000 hosts, echo requests, and segments that belong to nothing, whose resets need
/// neighbours that do not exist.
#[test]
fn strangers_allocate_nothing() {
    let mut interface: Interface<Rc<[u8]>, Bytes> =
        Interface::new(config(1), Secret([1; 16]), 0).expect("valid");
    let mut frames = Vec::new();
    for number in 0..3_000u16 {
        let [high, low] = (number + 300).to_be_bytes();
        let repr = ArpRepr::EthernetIpv4 {
            operation: if number % 4 == 0 { ArpOperation::Reply } else { ArpOperation::Request },
            source_hardware_addr: MacAddress([2, 0, 0, 1, high, low]),
            source_protocol_addr: [10, 0, high, low].into(),
            target_hardware_addr: MacAddress([0; 6]),
            target_protocol_addr: [10, 0, 0, 1].into(),
        };
        let mut arp = [0; 28];
        repr.emit(&mut ArpPacket::new_unchecked(&mut arp[..]));
        frames.push(frame(true, low, EthernetProtocol::Arp, &arp));
        let mut echo = [8, 0, 0, 0, 1, 2, 3, 4, 5, 6];
        Icmpv4Packet::new_unchecked(&mut echo[..]).fill_checksum();
        frames.push(ip([10, 0, high, low], IpProtocol::Icmp, &echo));
        let mut tcp = [0, 77, 17, 108, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 16, 0xff, 0xff, 0, 0, 0, 0];
        smoltcp::wire::TcpPacket::new_unchecked(&mut tcp[..])
            .fill_checksum(&IpAddr::from([10, 0, high, low]).into(), &IpAddr::from([10, 0, 0, 1]).into());
        frames.push(ip([10, 0, high, low], IpProtocol::Tcp, &tcp));
        frames.push(frame(false, low, EthernetProtocol::Ipv6, &tcp));
    }
    let mut now = 0;
    let mut flood = |interface: &mut Interface<Rc<[u8]>, Bytes>| {
        for (number, frame) in frames.iter().enumerate() {
            interface.receive(frame.clone(), Verified::default(), now);
            if number % 100 == 0 {
                now += 100_000;
                interface.on_time(now);
                interface.transmit(now, 80, |_| {});
            }
        }
    };
    // TCP's list of resets grows up to its limit.
    for _ in 0..64 {
        interface.receive(frames[2].clone(), Verified::default(), 0);
    }
    let (before, resets) = (interface.counters(), interface.tcp().counters().resets);
    let count = allocation_counter::measure(|| flood(&mut interface));
    let after = interface.counters();
    assert!(after.asked > before.asked && after.failed > before.failed, "{after:?}");
    assert!(interface.tcp().counters().resets > resets + 1_000);
    assert_eq!(count.count_total, 0);
}
