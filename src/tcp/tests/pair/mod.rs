//! Two stacks and the wire between them, for tests of whole conversations.

use std::collections::VecDeque;
use std::net::SocketAddr;

use dst_tcp::{Config, ConnectionId, Datagram, Event, ListenerId, Outgoing, Secret, Stack};

/// A segment on its way.
#[derive(Debug, Clone)]
pub struct Packet {
    pub at: u64,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub bytes: Vec<u8>,
}

/// One of the two.
pub struct Host {
    pub stack: Stack<Vec<u8>, Vec<u8>>,
    pub address: SocketAddr,
    pub events: Vec<Event<Vec<u8>>>,
    pub received: Vec<u8>,
    /// Reads at once what has come.
    pub reads: bool,
}

impl Host {
    fn new(last: u8, address: SocketAddr, config: Config) -> Host {
        Host {
            stack: Stack::new(config, Secret([last; 16])),
            address,
            events: Vec::new(),
            received: Vec::new(),
            reads: true,
        }
    }

    pub fn read(&mut self, id: ConnectionId, now: u64) {
        while let Some(chunk) = self.stack.read(id, now) {
            self.received.extend_from_slice(&chunk.frame[chunk.range]);
        }
    }
}

/// Two hosts. The first one connects, the second one listens.
pub struct Pair {
    pub now: u64,
    pub delay: u64,
    pub hosts: [Host; 2],
    pub wire: VecDeque<Packet>,
    pub listener: ListenerId,
    /// What happens to the nth packet from the first host, and from the second one.
    pub drop: fn(usize, usize, &Packet) -> bool,
    pub count: [usize; 2],
    /// The last packet from the first host, and from the second one.
    pub last: [Option<Packet>; 2],
}

impl Pair {
    /// Returns two hosts with IPv4 addresses.
    pub fn new(config: Config) -> Pair {
        Pair::at([1, 2].map(|last| SocketAddr::from(([10, 0, 0, last], 4460))), config)
    }

    /// Returns two hosts with these addresses.
    pub fn at([first, second]: [SocketAddr; 2], config: Config) -> Pair {
        let mut hosts = [Host::new(1, first, config.clone()), Host::new(2, second, config)];
        let address = hosts[1].address;
        let listener = hosts[1].stack.listen(address, 16).expect("nothing listens yet");
        Pair {
            now: 1_000_000,
            delay: 50,
            hosts,
            wire: VecDeque::new(),
            listener,
            drop: |_, _, _| false,
            count: [0; 2],
            last: [None, None],
        }
    }

    /// Connects and accepts. Returns the connection at either end.
    pub fn connect(&mut self) -> (ConnectionId, ConnectionId) {
        let (local, remote) = (SocketAddr::new(self.hosts[0].address.ip(), 0), self.hosts[1].address);
        let client = self.hosts[0].stack.connect(local, remote, self.now).expect("there is room");
        for _ in 0..1000 {
            self.step();
            if let Some(server) = self.hosts[1].stack.accept(self.listener, self.now) {
                return (client, server);
            }
        }
        panic!("no connection after 1000 steps: {:?}", self.hosts[0].stack.information(client));
    }

    /// Sends what is to be sent, and goes on to the next thing that happens. Returns false if
    /// nothing will.
    pub fn step(&mut self) -> bool {
        for from in 0..2 {
            let (now, at, count) = (self.now, self.now + self.delay, &mut self.count[from]);
            let (wire, drop, last) = (&mut self.wire, self.drop, &mut self.last[from]);
            self.hosts[from].stack.transmit(now, usize::MAX, |segment: &Outgoing<'_, Vec<u8>>| {
                let mut bytes = vec![0; segment.header_len() + segment.payload_len];
                segment.write(&mut bytes);
                let packet = Packet { at, source: segment.local, destination: segment.remote, bytes };
                *count += 1;
                *last = Some(packet.clone());
                if !drop(from, *count, &packet) {
                    wire.push_back(packet);
                }
            });
        }
        let next = self.wire.front().map(|packet| packet.at);
        let timers = self.hosts.iter().filter_map(|host| host.stack.deadline());
        let Some(at) = timers.chain(next).min() else { return false };
        self.now = self.now.max(at);
        while let Some(packet) = self.wire.pop_front_if(|packet| packet.at <= self.now) {
            self.deliver(packet);
        }
        for host in &mut self.hosts {
            host.stack.on_time(self.now);
            while let Some(event) = host.stack.event() {
                if let (Event::Readable(id), true) = (&event, host.reads) {
                    host.read(*id, self.now);
                }
                host.events.push(event);
            }
        }
        true
    }

    pub fn deliver(&mut self, packet: Packet) {
        let to = usize::from(packet.destination.ip() == self.hosts[1].address.ip());
        let datagram = Datagram {
            source: packet.source.ip(),
            destination: packet.destination.ip(),
            range: 0..packet.bytes.len(),
            frame: packet.bytes,
            is_verified: false,
        };
        self.hosts[to].stack.receive(datagram, self.now);
    }

    /// Goes on until it holds, for so many microseconds at most. Returns how many it took.
    pub fn until(&mut self, limit: u64, holds: impl Fn(&Pair) -> bool) -> u64 {
        let from = self.now;
        while !holds(self) {
            assert!(self.step() && self.now - from <= limit, "not within {limit} µs");
        }
        self.now - from
    }
}

/// Bytes by which one can tell if one is missing or in the wrong place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
