//! Frames on their way, and what happens to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use dst_net::MacAddress;
use smoltcp::wire::{EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet};
use world::rng::Rng;

use super::plan::{LanPlan, mac};
use crate::lab::{frame, packet};

/// The router's link-layer address.
const ROUTER: MacAddress = MacAddress([2, 0, 0, 0, 0, 254]);

/// The number of bytes that a router quotes, at least, of a packet that is too long (RFC 792).
const QUOTED: usize = 8;

/// A frame on its way: its time of arrival, its number, the host that it is for, and its bytes.
type OnTheWay = (u64, u64, usize, Vec<u8>);

/// An Ethernet with two hosts, each of which receives everything that the other one sends.
pub struct Ether {
    rng: Rng,
    plan: LanPlan,
    /// The times at which each host's link will have sent its queue.
    busy: [u64; 2],
    on_the_way: BinaryHeap<Reverse<OnTheWay>>,
    count: u64,
    /// The number of frames that were lost or dropped.
    pub lost: u64,
}

impl Ether {
    pub fn new(plan: &LanPlan) -> Ether {
        Ether {
            rng: Rng::new(plan.users.seed ^ 0x6574_6865_7200),
            plan: plan.clone(),
            busy: [0; 2],
            on_the_way: BinaryHeap::new(),
            count: 0,
            lost: 0,
        }
    }

    /// Returns the position of the packet in a frame, and whether the packet is a question or
    /// answer about neighbours.
    fn look(&self, bytes: &[u8]) -> (usize, bool) {
        let ip = if self.plan.configs[0].vlan.is_some() { 18 } else { 14 };
        let ethertype = [bytes[ip - 2], bytes[ip - 1]];
        let is_ndisc = ethertype == [0x86, 0xdd] && bytes[ip + 6] == 58;
        (ip, ethertype == [8, 6] || is_ndisc)
    }

    /// Takes a frame that host `from` sends.
    pub fn send(&mut self, from: usize, mut bytes: Vec<u8>, now: u64) {
        let link = self.plan.users.links[from].clone();
        let faulty = now < self.plan.users.faults_end;
        let (ip, is_question) = self.look(&bytes);
        if link.longest > 0 && bytes.len() - ip > link.longest {
            self.lost += 1;
            if self.plan.router_speaks {
                self.complain(from, &bytes[ip..], link.longest as u16, now + link.delay);
            }
            return;
        }
        let rng = &mut self.rng;
        let loses = rng.chance(link.loss) || (is_question && rng.chance(self.plan.lost_questions));
        if faulty && (self.plan.users.cut.contains(now) || loses) {
            self.lost += 1;
            return;
        }
        let mut at = now + link.delay;
        if link.rate > 0 {
            let begin = self.busy[from].max(now);
            if (begin - now) * link.rate / 1000 > link.queue {
                self.lost += 1;
                return;
            }
            self.busy[from] = begin + bytes.len() as u64 * 1000 / link.rate;
            at += self.busy[from] - now;
        }
        if faulty {
            at += rng.below(link.jitter + 1);
            if rng.chance(link.reorder) {
                at += rng.below(link.late + 1);
            }
            if rng.chance(link.repeat) {
                let later = at + rng.below(2 * link.delay);
                self.put(later, 1 - from, bytes.clone());
            }
        }
        // The frame check sequence protects a frame on Ethernet, but nothing protects a packet
        // inside a router.
        if faulty && !is_question && self.rng.chance(link.corrupt) {
            let bit = self.rng.index((bytes.len() - ip) * 8);
            bytes[ip + bit / 8] ^= 1 << (bit % 8);
        }
        self.put(at, 1 - from, bytes);
    }

    /// Reports from a router that a packet was too long (RFC 1191, RFC 8201).
    fn complain(&mut self, to: usize, quoted: &[u8], mtu: u16, at: u64) {
        let [high, low] = mtu.to_be_bytes();
        let source = self.plan.address(to);
        let bytes = match source {
            IpAddr::V4(v4) => {
                let header = usize::from(Ipv4Packet::new_unchecked(quoted).header_len());
                let mut icmp = [&[3, 4, 0, 0, 0, 0, high, low][..], &quoted[..header + QUOTED]].concat();
                Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
                packet(IpAddr::from([10, 0, 0, 254]), v4.into(), IpProtocol::Icmp, 64, &icmp)
            }
            IpAddr::V6(v6) => {
                let router = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
                assert_eq!(Ipv6Packet::new_unchecked(quoted).src_addr(), v6);
                let mut icmp =
                    [&[2, 0, 0, 0, 0, 0, high, low][..], &quoted[..quoted.len().min(1232)]].concat();
                Icmpv6Packet::new_unchecked(&mut icmp[..]).fill_checksum(&router, &v6);
                packet(router.into(), source, IpProtocol::Icmpv6, 64, &icmp)
            }
        };
        let ethertype = if source.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
        let mut bytes = frame(ROUTER, mac(to), ethertype, &bytes);
        if let Some(vlan) = self.plan.configs[0].vlan {
            bytes.splice(12..12, [0x81, 0, (vlan >> 8) as u8, vlan as u8]);
        }
        self.put(at, to, bytes);
    }

    /// Sends a frame so that it arrives at a host at a given time.
    pub fn put(&mut self, at: u64, to: usize, bytes: Vec<u8>) {
        self.count += 1;
        self.on_the_way.push(Reverse((at, self.count, to, bytes)));
    }

    /// Returns when the next frame arrives.
    pub fn next(&self) -> Option<u64> {
        self.on_the_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Returns a frame that has arrived, with the host that it is for.
    pub fn arrived(&mut self, now: u64) -> Option<(usize, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        self.on_the_way.pop().map(|Reverse((_, _, to, bytes))| (to, bytes))
    }
}
