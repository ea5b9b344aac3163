//! An interface whose Ethernet carries anything: raw frames, and ones whose headers and checksums
//! are right, between calls of the user and pauses. Nothing may panic, the interface may not send
//! without end or let time stand still, and what it sends is well-formed.
//!
//! The input is a list of steps: a byte that says which, and what it needs.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use dst_net::{Config, Interface, MacAddress, Prefix, Route, Verified};
use dst_tcp::{ConnectionId, Event, Payload, Secret};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Bytes(Vec<u8>);

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

/// The steps that are left.
struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Returns up to as many bytes as the next byte says.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(self.byte()?).min(self.0.len());
        let (first, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(first.to_vec())
    }
}

/// Addresses: the interface's own, neighbours, routers, and others.
const V4: [[u8; 4]; 8] = [
    [10, 0, 0, 1],
    [10, 0, 0, 2],
    [10, 0, 0, 3],
    [10, 0, 0, 254],
    [10, 1, 0, 1],
    [10, 0, 0, 255],
    [0, 0, 0, 0],
    [224, 0, 0, 1],
];

fn v6(choice: u8) -> [u8; 16] {
    let text =
        ["fd00::1", "fd00::2", "fe80::ff:fe00:1", "fe80::fe", "fd01::1", "ff02::1", "::", "ff02::1:ff00:1"];
    text[usize::from(choice % 8)].parse::<std::net::Ipv6Addr>().expect("valid").octets()
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

struct World {
    interface: Interface<Vec<u8>, Bytes>,
    now: u64,
    /// The last frame that was sent.
    last: Vec<u8>,
    ids: Vec<ConnectionId>,
}

impl World {
    fn new(first: u8) -> World {
        let prefixes = vec![Prefix::new(V4[0], 24), Prefix::new(v6(0), 64)];
        let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, 1]), prefixes);
        let route = |prefix, gateway: IpAddr| Route { destination: prefix, gateway };
        config.routes = vec![
            route(Prefix::new([0, 0, 0, 0], 0), V4[3].into()),
            route(Prefix::new([0u8; 16], 0), v6(3).into()),
        ];
        config.detect_duplicates = first & 1 != 0;
        config.vlan = (first & 2 != 0).then_some(7);
        config.max_neighbours = 6;
        config.max_resolving = 4;
        config.max_waiting = 3;
        config.max_waiting_each = 2;
        config.max_answers = 5;
        let mut interface = Interface::new(config, Secret([7; 16]), 0).expect("the settings are right");
        for ip in [IpAddr::from(V4[0]), IpAddr::from(v6(0))] {
            interface.tcp().listen(SocketAddr::new(ip, 1), 4).expect("nothing listens yet");
        }
        World { interface, now: 0, last: Vec::new(), ids: Vec::new() }
    }

    fn events(&mut self) {
        while self.interface.event().is_some() {}
        while let Some(event) = self.interface.tcp().event() {
            match event {
                Event::Incoming(listener) => self.ids.extend(self.interface.tcp().accept(listener, self.now)),
                Event::Readable(id) => while self.interface.tcp().read(id, self.now).is_some() {},
                Event::Closed(id, _) => self.ids.retain(|other| *other != id),
                Event::Connected(_) | Event::Released(..) => {}
            }
        }
    }

    fn transmit(&mut self) {
        let mut last = std::mem::take(&mut self.last);
        let count = self.interface.transmit(self.now, 1000, |frame| {
            last.clear();
            last.resize(frame.frame_len(), 0);
            assert_eq!(frame.write(&mut last), last.len());
            assert_eq!(last[6..12], [2, 0, 0, 0, 0, 1]);
            assert!(last.len() <= 1518 && last[..6] != [0; 6]);
        });
        assert!(count < 1000, "it sends without end");
        self.last = last;
        self.events();
    }

    fn pass(&mut self, time: u64) {
        let until = self.now + time;
        for _ in 0..10_000 {
            self.transmit();
            match self.interface.deadline() {
                Some(at) if at <= until => self.now = self.now.max(at),
                _ => {
                    self.now = until;
                    return;
                }
            }
            self.interface.on_time(self.now);
            self.events();
        }
        panic!("time stands still at {}", self.now);
    }

    /// Passes a frame in. `how`: where it goes, and whether it has a tag.
    fn frame(&mut self, how: u8, ethertype: [u8; 2], payload: &[u8]) {
        let to: [u8; 6] = match how & 3 {
            0 | 1 => [2, 0, 0, 0, 0, 1],
            2 => [0xff; 6],
            _ => [0x33, 0x33, 0xff, 0, 0, 1],
        };
        let mut frame = [&to[..], &[2, 0, 0, 0, 0, 2 + (how >> 2 & 3)]].concat();
        if how & 16 != 0 {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(ethertype);
        frame.extend(payload);
        let verified = Verified { ipv4: how & 32 != 0, tcp: how & 64 != 0 };
        self.interface.receive(frame, verified, self.now);
        self.events();
    }

    fn ipv4(&mut self, how: u8, ends: u8, protocol: u8, mut payload: Vec<u8>) {
        if protocol == 1 && payload.len() >= 4 {
            payload[2..4].fill(0);
            let checksum = sum(&[&payload]);
            payload[2..4].copy_from_slice(&checksum);
        }
        let length = (20 + payload.len() as u16).to_be_bytes();
        let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header.extend(V4[usize::from(ends >> 4 & 7)]);
        header.extend(V4[usize::from(ends & 7)]);
        let checksum = sum(&[&header]);
        header[10..12].copy_from_slice(&checksum);
        header.extend(payload);
        self.frame(how, [8, 0], &header);
    }

    fn ipv6(&mut self, how: u8, ends: u8, protocol: u8, mut payload: Vec<u8>) {
        let (source, destination) = (v6(ends >> 4), v6(ends));
        let length = (payload.len() as u16).to_be_bytes();
        if protocol == 58 && payload.len() >= 4 {
            payload[2..4].fill(0);
            let checksum = sum(&[&source, &destination, &length, &[0, 58], &payload]);
            payload[2..4].copy_from_slice(&checksum);
        }
        let mut header = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 255];
        header.extend(source);
        header.extend(destination);
        header.extend(payload);
        self.frame(how, [0x86, 0xdd], &header);
    }

    fn step(&mut self, steps: &mut Steps<'_>) -> Option<()> {
        match steps.byte()? % 10 {
            0 => {
                let frame = steps.bytes()?;
                self.interface.receive(frame, Verified::default(), self.now);
            }
            1 => {
                let (how, ethertype, payload) =
                    (steps.byte()?, [steps.byte()?, steps.byte()?], steps.bytes()?);
                self.frame(how, ethertype, &payload);
            }
            2 => {
                let (how, ends, operation) = (steps.byte()?, steps.byte()?, steps.byte()? % 3);
                let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 2 + (how >> 2 & 3)];
                arp.extend(V4[usize::from(ends >> 4 & 7)]);
                arp.extend([2, 0, 0, 0, 0, 1]);
                arp.extend(V4[usize::from(ends & 7)]);
                self.frame(how, [8, 6], &arp);
            }
            3 => {
                let (how, ends, protocol) = (steps.byte()?, steps.byte()?, steps.byte()?);
                let protocol = [1, 6, protocol][usize::from(protocol % 3)];
                let payload = steps.bytes()?;
                self.ipv4(how, ends, protocol, payload);
            }
            4 => {
                let (how, ends, protocol) = (steps.byte()?, steps.byte()?, steps.byte()?);
                let protocol = [58, 6, protocol][usize::from(protocol % 3)];
                let payload = steps.bytes()?;
                self.ipv6(how, ends, protocol, payload);
            }
            5 => {
                // A solicitation or advertisement, with options from the input.
                let (how, ends, flags, target) = (steps.byte()?, steps.byte()?, steps.byte()?, steps.byte()?);
                let mut payload = vec![135 + (flags & 1), 0, 0, 0, flags & 0xe0, 0, 0, 0];
                payload.extend(v6(target));
                payload.extend(steps.bytes()?);
                self.ipv6(how, ends, 58, payload);
            }
            6 => {
                // An error about what was sent last, with a few bytes changed.
                let (how, kind, code, mtu) = (steps.byte()?, steps.byte()?, steps.byte()?, steps.byte()?);
                let link = if self.last.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
                let mut quoted = self.last.get(link..).unwrap_or_default().to_vec();
                quoted.truncate(usize::from(steps.byte()?));
                let (at, value) = (usize::from(steps.byte()?), steps.byte()?);
                if let Some(byte) = quoted.get_mut(at) {
                    *byte ^= value;
                }
                let mut payload = vec![kind % 12, code % 14, 0, 0, 0, 0, mtu, mtu];
                payload.extend(quoted);
                match how & 128 {
                    0 => self.ipv4(how, 0x30, 1, payload),
                    _ => self.ipv6(how, 0x30, 58, payload),
                }
            }
            7 => {
                let time = 1 << (steps.byte()? % 26);
                self.pass(time);
            }
            8 => {
                let choice = steps.byte()?;
                let remote =
                    if choice & 8 == 0 { V4[usize::from(choice & 7)].into() } else { v6(choice).into() };
                if self.ids.len() < 20
                    && let Ok(id) = self.interface.connect(SocketAddr::new(remote, 1), self.now)
                {
                    self.ids.push(id);
                }
            }
            _ => {
                let (which, how, data) = (steps.byte()?, steps.byte()?, steps.bytes()?);
                if let Some(id) = self.ids.get(usize::from(which) % self.ids.len().max(1)).copied() {
                    match how % 4 {
                        0 => self.interface.tcp().close(id, self.now),
                        1 => self.interface.tcp().abort(id, self.now),
                        _ => drop(self.interface.tcp().send(id, Bytes(data))),
                    }
                }
            }
        }
        self.events();
        if self.now.is_multiple_of(2) {
            self.transmit();
        }
        Some(())
    }
}

fuzz_target!(|input: &[u8]| {
    let mut steps = Steps(input);
    let Some(first) = steps.byte() else { return };
    let mut world = World::new(first);
    while world.step(&mut steps).is_some() {}
    for id in std::mem::take(&mut world.ids) {
        world.interface.tcp().abort(id, world.now);
    }
    world.pass(200_000_000);
    world.transmit();
});
