//! Two interfaces and the wire between them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use dst_net::{Config, Interface, MacAddress, NetEvent, Prefix, Verified};
use dst_tcp::{ConnectionId, Event, Reason, Secret};

/// One of the two hosts.
pub struct Host {
    pub interface: Interface<Vec<u8>, Vec<u8>>,
    pub told: Vec<NetEvent>,
    pub accepted: Vec<ConnectionId>,
    pub closed: Vec<(ConnectionId, Reason)>,
    pub received: Vec<u8>,
}

impl Host {
    fn take_events(&mut self, now: u64) {
        self.told.extend(std::iter::from_fn(|| self.interface.event()));
        while let Some(event) = self.interface.tcp().event() {
            match event {
                Event::Incoming(listener) => {
                    self.accepted.extend(self.interface.tcp().accept(listener, now));
                }
                Event::Readable(id) => {
                    while let Some(chunk) = self.interface.tcp().read(id, now) {
                        self.received.extend_from_slice(&chunk.frame[chunk.range]);
                    }
                }
                Event::Closed(id, reason) => self.closed.push((id, reason)),
                Event::Connected(_) | Event::Released(..) => {}
            }
        }
    }
}

/// Two hosts, of which the second listens at port 4460.
pub struct Pair {
    pub now: u64,
    pub delay: u64,
    pub hosts: [Host; 2],
    pub wire: VecDeque<(u64, usize, Vec<u8>)>,
    /// Returns true if a frame from the first (0) or second (1) host is lost.
    pub drop: fn(usize, &[u8]) -> bool,
    /// All frames that each host has sent.
    pub sent: [Vec<Vec<u8>>; 2],
}

/// Returns the settings of the first (0) or second host: 10.0.0.1/24 and fd00::1/64, or 2.
pub fn config(host: usize) -> Config {
    let last = host as u8 + 1;
    let addresses =
        vec![Prefix::new([10, 0, 0, last], 24), Prefix::new([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)], 64)];
    let mut config = Config::new(MacAddress([2, 0, 0, 0, 0, last]), addresses);
    config.detect_duplicates = false;
    config.tcp.peer_ack_delay = 2_000;
    config.tcp.probe_margin = 1_000;
    config.tcp.time_wait = 1_000_000;
    config
}

/// Returns the address at which the second host listens.
pub fn server(is_ipv6: bool) -> SocketAddr {
    let ip = if is_ipv6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]) } else { IpAddr::from([10, 0, 0, 2]) };
    SocketAddr::new(ip, 4460)
}

impl Pair {
    pub fn new(configs: [Config; 2]) -> Pair {
        let mut last = 0;
        let hosts = configs.map(|config| {
            last += 1;
            let secret = Secret([last; 16]);
            Host {
                interface: Interface::new(config, secret, 1_000_000).expect("the settings are right"),
                told: Vec::new(),
                accepted: Vec::new(),
                closed: Vec::new(),
                received: Vec::new(),
            }
        });
        let mut pair = Pair {
            now: 1_000_000,
            delay: 50,
            hosts,
            wire: VecDeque::new(),
            drop: |_, _| false,
            sent: [Vec::new(), Vec::new()],
        };
        for is_ipv6 in [false, true] {
            pair.hosts[1].interface.tcp().listen(server(is_ipv6), 16).expect("nothing listens yet");
        }
        pair
    }

    /// Sends all frames that are ready now.
    pub fn send(&mut self) {
        for from in 0..2 {
            let (at, drop) = (self.now + self.delay, self.drop);
            let (wire, sent) = (&mut self.wire, &mut self.sent[from]);
            self.hosts[from].interface.transmit(self.now, usize::MAX, |frame| {
                let mut bytes = vec![0; frame.frame_len()];
                assert_eq!(frame.write(&mut bytes), bytes.len());
                if !drop(from, &bytes) {
                    wire.push_back((at, 1 - from, bytes.clone()));
                }
                sent.push(bytes);
            });
            self.hosts[from].take_events(self.now);
        }
    }

    /// Sends all frames that are ready, and advances to the next event, but not beyond `limit`.
    pub fn step(&mut self, limit: u64) {
        self.send();
        let next = self.wire.front().map(|(at, ..)| *at);
        let timers = self.hosts.iter().filter_map(|host| host.interface.deadline());
        self.now = timers.chain(next).fold(limit, u64::min).max(self.now);
        while let Some((_, to, bytes)) = self.wire.pop_front_if(|(at, ..)| *at <= self.now) {
            self.hosts[to].interface.receive(bytes, Verified::default(), self.now);
        }
        for host in &mut self.hosts {
            host.interface.on_time(self.now);
            host.take_events(self.now);
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: u64) {
        let until = self.now + time;
        while self.now < until {
            self.step(until);
        }
    }

    /// Advances until `holds` returns true, for at most `limit` microseconds. Returns how many it
    /// took.
    pub fn until(&mut self, limit: u64, holds: impl Fn(&Pair) -> bool) -> u64 {
        let from = self.now;
        self.send();
        while !holds(self) {
            assert!(self.now < from + limit, "not within {limit} µs");
            self.step(from + limit);
            self.send();
        }
        self.now - from
    }

    /// Opens a connection. Returns its id at either end.
    pub fn connect(&mut self, is_ipv6: bool) -> (ConnectionId, ConnectionId) {
        let client = self.hosts[0].interface.connect(server(is_ipv6), self.now).expect("there is room");
        self.until(10_000_000, |pair| !pair.hosts[1].accepted.is_empty());
        (client, self.hosts[1].accepted[0])
    }
}

/// Returns bytes from which a missing or misplaced byte can be told.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}
