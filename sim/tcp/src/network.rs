//! Packets on their way, and what happens to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use world::rng::Rng;

use crate::plan::{Gap, Link};

/// A TCP segment between two addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// The sender's address.
    pub source: SocketAddr,
    /// The receiver's address.
    pub destination: SocketAddr,
    /// The segment.
    pub bytes: Vec<u8>,
}

/// A test's choice of packets to lose. It is given the direction, the packet's number in this
/// direction, and the packet, and returns whether the packet is lost.
pub type Filter = Box<dyn FnMut(usize, u64, &Packet) -> bool>;

/// The network between two hosts.
pub struct Network {
    rng: Rng,
    links: [Link; 2],
    cut: Gap,
    faults_end: u64,
    /// The times at which each link will have sent its queue.
    busy: [u64; 2],
    on_the_way: BinaryHeap<Reverse<(u64, u64, usize, Packet)>>,
    count: u64,
    sent: [u64; 2],
    /// The test's choice of packets to lose.
    pub filter: Option<Filter>,
    /// The number of packets that were lost or dropped.
    pub lost: u64,
}

impl Network {
    /// Returns an empty network.
    pub fn new(seed: u64, links: [Link; 2], cut: Gap, faults_end: u64) -> Network {
        Network {
            rng: Rng::new(seed ^ 0x6e65_7477_6f72_6b00),
            links,
            cut,
            faults_end,
            busy: [0; 2],
            on_the_way: BinaryHeap::new(),
            count: 0,
            sent: [0; 2],
            filter: None,
            lost: 0,
        }
    }

    /// Takes a packet that host `from` sends.
    pub fn send(&mut self, from: usize, packet: Packet, now: u64) {
        self.sent[from] += 1;
        let number = self.sent[from];
        if self.filter.as_mut().is_some_and(|filter| filter(from, number, &packet)) {
            self.lost += 1;
            return;
        }
        let link = self.links[from].clone();
        let faulty = now < self.faults_end;
        let rng = &mut self.rng;
        // A path that swallows long packets does so even after the faults have ended.
        let vanishes = link.longest > 0 && packet.bytes.len() > link.longest;
        if vanishes || (faulty && (self.cut.contains(now) || rng.chance(link.loss))) {
            self.lost += 1;
            return;
        }
        let mut at = now + link.delay;
        if link.rate > 0 {
            let begin = self.busy[from].max(now);
            let waiting = (begin - now) * link.rate / 1000;
            if waiting > link.queue {
                self.lost += 1;
                return;
            }
            self.busy[from] = begin + packet.bytes.len() as u64 * 1000 / link.rate;
            at += self.busy[from] - now;
        }
        if faulty {
            at += rng.below(link.jitter + 1);
            if rng.chance(link.reorder) {
                at += rng.below(link.late + 1);
            }
            if rng.chance(link.repeat) {
                let later = at + rng.below(2 * link.delay);
                self.put(later, from, packet.clone());
            }
        }
        let mut packet = packet;
        if faulty && self.rng.chance(link.corrupt) {
            let bit = self.rng.index(packet.bytes.len() * 8);
            packet.bytes[bit / 8] ^= 1 << (bit % 8);
        }
        self.put(at, from, packet);
    }

    /// Sends a packet so that it arrives at a given time.
    pub fn put(&mut self, at: u64, from: usize, packet: Packet) {
        self.count += 1;
        self.on_the_way.push(Reverse((at, self.count, from, packet)));
    }

    /// Returns when the next packet arrives.
    pub fn next(&self) -> Option<u64> {
        self.on_the_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Returns a packet that has arrived, with the number of its receiver.
    pub fn arrived(&mut self, now: u64) -> Option<(usize, Packet)> {
        if self.next()? > now {
            return None;
        }
        self.on_the_way.pop().map(|Reverse((_, _, from, packet))| (1 - from, packet))
    }
}
