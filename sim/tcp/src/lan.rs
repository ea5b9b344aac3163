//! Hosts with interfaces on an Ethernet that loses, repeats, delays and corrupts frames as a seed
//! decides. The first host connects to the second, and a third may claim the second's address.

mod ether;
mod plan;

use std::net::{IpAddr, SocketAddr};

use dst_net::{DropReason, Interface, MacAddress, NetEvent, Verified, mutation};
use dst_tcp::{Reason, Secret};

use crate::lab::{advert, frame, packet};
use crate::user::{Buffer, User};

use ether::Ether;
pub use plan::LanPlan;
use plan::mac;
use smoltcp::wire::{EthernetProtocol, Icmpv6Packet, IpProtocol};

/// The longest that a conversation may take once the faults are over, in microseconds: a few
/// retries of the longest timeout, and the time after which a neighbour is asked again.
const PATIENCE: u64 = 150_000_000;

/// The impostor's link-layer address, which no host has.
const IMPOSTOR: MacAddress = MacAddress([2, 0, 0, 0, 0, 66]);

/// The result of a seed.
#[derive(Debug, Default)]
pub struct LanOutcome {
    /// The first violation.
    pub violation: Option<String>,
    /// When everything was received and closed, in microseconds.
    pub finished: u64,
    /// A digest of the run, which differs if anything went differently.
    pub trace: u64,
    /// The numbers of frames sent and lost.
    pub frames: (u64, u64),
    /// The numbers of questions for neighbours, and of neighbours that did not answer.
    pub asked: (u64, u64),
    /// The number of frames that claimed another host's address.
    pub conflicts: u64,
}

struct Station {
    interface: Interface<Vec<u8>, Buffer>,
    user: User,
    address: IpAddr,
}

impl Station {
    fn deadline(&self) -> Option<u64> {
        [self.interface.deadline(), self.user.deadline()].into_iter().flatten().min()
    }
}

/// Two hosts and their Ethernet.
pub struct Lan {
    now: u64,
    plan: LanPlan,
    ether: Ether,
    hosts: [Station; 2],
    inbox: [Vec<Vec<u8>>; 2],
    outcome: LanOutcome,
    /// The time of the impostor's next claim.
    claims_at: Option<u64>,
    /// The time of the next attempt to connect.
    retry_at: u64,
    turns: u32,
}

impl Lan {
    /// Returns the beginning of a plan's world.
    pub fn new(plan: &LanPlan) -> Lan {
        let station = |host: usize| {
            let address = plan.address(host);
            let mut interface = Interface::new(plan.configs[host].clone(), Secret([host as u8 + 1; 16]), 0)
                .expect("the plan's settings are right");
            if host == 1 {
                interface.tcp().listen(SocketAddr::new(address, 4460), 64).expect("nothing listens yet");
            }
            Station { interface, user: User::new(host, &plan.users), address }
        };
        Lan {
            now: 0,
            plan: plan.clone(),
            ether: Ether::new(plan),
            hosts: [station(0), station(1)],
            inbox: [Vec::new(), Vec::new()],
            outcome: LanOutcome::default(),
            claims_at: plan.impostor.first,
            retry_at: 0,
            turns: 0,
        }
    }

    fn violate(&mut self, violation: String) {
        self.outcome.violation.get_or_insert(format!("at {} µs: {violation}", self.now));
    }

    /// Lets the hosts do what is due now.
    fn turn(&mut self) {
        while let Some((to, bytes)) = self.ether.arrived(self.now) {
            self.inbox[to].push(bytes);
        }
        self.claim();
        for host in 0..2 {
            if self.plan.users.stalls[host].contains(self.now) {
                continue;
            }
            let station = &mut self.hosts[host];
            for bytes in self.inbox[host].drain(..) {
                station.interface.receive(bytes, Verified::default(), self.now);
            }
            station.interface.on_time(self.now);
            let usable = station.interface.owns(station.address);
            if host == 0 && usable && station.user.has_to_connect() && self.now >= self.retry_at {
                let remote = SocketAddr::new(self.plan.address(1), 4460);
                station.user.connect(station.interface.tcp(), station.address, remote, self.now);
                self.retry_at = self.now + 500_000;
            }
            station.user.poll(station.interface.tcp(), self.now);
            let mut frames = Vec::new();
            station.interface.transmit(self.now, usize::MAX, |frame| {
                let mut bytes = vec![0; frame.frame_len()];
                frame.write(&mut bytes);
                frames.push(bytes);
            });
            station.user.take_events(station.interface.tcp(), self.now);
            let mut told = Vec::new();
            told.extend(std::iter::from_fn(|| station.interface.event()));
            let violation = station.user.violation.take();
            for event in told {
                if let (NetEvent::Duplicate(address, by), false) = (event, self.plan.may_conflict()) {
                    self.violate(format!("host {host} lost {address} to {by}"));
                }
            }
            violation.into_iter().for_each(|violation| self.violate(violation));
            for bytes in frames {
                self.note(host, &bytes);
                self.ether.send(host, bytes, self.now);
            }
        }
    }

    fn note(&mut self, host: usize, bytes: &[u8]) {
        self.outcome.frames.0 += 1;
        let mtu = usize::from(self.plan.configs[host].mtu);
        if bytes.len() > mtu + 18 || bytes[6..12] != mac(host).0 || bytes[..6] == [0; 6] {
            self.violate(format!("host {host} sends a frame that is wrong: {:02x?}", &bytes[..14]));
        }
        if self.plan.users.history {
            println!(
                "{} host {host}: {:02x?}, {} bytes",
                self.now,
                &bytes[..bytes.len().min(54)],
                bytes.len()
            );
        }
        let mut trace = self.outcome.trace;
        for byte in bytes.iter().take(80).chain(&self.now.to_le_bytes()) {
            trace = (trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.outcome.trace = trace;
    }

    /// Has the impostor tell the first host that it has the second host's address.
    fn claim(&mut self) {
        let Some(at) = self.claims_at.filter(|at| *at <= self.now) else { return };
        let IpAddr::V4(address) = self.plan.address(1) else {
            let target = self.plan.address(1).to_string();
            let repr = advert(&target, IMPOSTOR.0[5], false, true);
            let (source, destination) = (self.plan.address(1), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]));
            let (IpAddr::V6(from), IpAddr::V6(to)) = (source, destination) else { return };
            let mut bytes = vec![0; repr.buffer_len()];
            let mut icmp = Icmpv6Packet::new_unchecked(&mut bytes[..]);
            repr.emit(&mut icmp);
            icmp.fill_checksum(&from, &to);
            let bytes = packet(source, destination, IpProtocol::Icmpv6, 255, &bytes);
            let all = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
            return self.put_claim(at, frame(IMPOSTOR, all, EthernetProtocol::Ipv6, &bytes));
        };
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend(IMPOSTOR.0);
        arp.extend(address.octets());
        arp.extend([0; 6]);
        arp.extend(address.octets());
        self.put_claim(at, frame(IMPOSTOR, MacAddress::BROADCAST, EthernetProtocol::Arp, &arp));
    }

    fn put_claim(&mut self, at: u64, mut bytes: Vec<u8>) {
        if let Some(vlan) = self.plan.configs[0].vlan {
            bytes.splice(12..12, [0x81, 0, (vlan >> 8) as u8, vlan as u8]);
        }
        (0..2).for_each(|to| self.ether.put(self.now + 1, to, bytes.clone()));
        let next = at + self.plan.impostor.pause;
        self.claims_at = (next < self.plan.users.faults_end).then_some(next);
    }

    /// Advances the time to the next event. Returns false if there will be none.
    fn advance(&mut self) -> bool {
        let mut next = [self.ether.next(), self.claims_at].into_iter().flatten().min();
        for host in 0..2 {
            let stall = self.plan.users.stalls[host];
            let deadline = self.hosts[host].deadline();
            let wakes = if stall.contains(self.now) { Some(stall.to) } else { deadline };
            next = [next, wakes].into_iter().flatten().min();
        }
        let client = &self.hosts[0];
        if client.user.has_to_connect() && client.interface.owns(client.address) {
            next = Some(next.unwrap_or(u64::MAX).min(self.retry_at.max(self.now + 1)));
        }
        let Some(next) = next else { return false };
        if next > self.now {
            (self.turns, self.now) = (0, next);
        }
        self.turns += 1;
        if self.turns > 10_000 {
            self.violate("time stands still".to_string());
        }
        true
    }

    /// Runs until everything was sent, received and closed.
    fn run(&mut self) {
        loop {
            self.turn();
            if self.outcome.violation.is_some() {
                return;
            }
            if self.hosts.iter().all(|host| host.user.is_done()) {
                break;
            }
            if !self.advance() {
                return self.violate("nothing happens any more".to_string());
            }
            if self.now > self.plan.users.faults_end + PATIENCE {
                return self.violate("it takes too long".to_string());
            }
        }
        self.outcome.finished = self.now;
        self.check_end();
    }

    fn check_end(&mut self) {
        for host in 0..2 {
            let later = self.now + 1_000_000_000;
            let Station { interface, user, .. } = &mut self.hosts[host];
            let counters = interface.counters();
            self.outcome.asked.0 += counters.asked;
            self.outcome.asked.1 += counters.failed;
            self.outcome.conflicts += counters.conflicts;
            let mut wrong = user
                .ends
                .iter()
                .find(|end| **end != Reason::Finished)
                .map(|end| format!("host {host}: {end}"));
            if user.has_buffers() {
                wrong = Some(format!("host {host} has not released all buffers"));
            }
            if self.plan.is_harmless() && self.ether.lost == 0 {
                // A host that makes sure of its address does not answer in its first second.
                let is_silent = self.plan.configs[1 - host].detect_duplicates;
                // All frames reach all hosts, even those to groups that only one host listens to.
                let is_excused = |reason: DropReason| match reason {
                    DropReason::NotForUs => true,
                    DropReason::WaitingFull => is_silent,
                    _ => false,
                };
                let mut dropped = DropReason::ALL.into_iter().filter(|reason| counters.dropped(*reason) > 0);
                let dropped = dropped.find(|reason| !is_excused(*reason));
                wrong = wrong.or(dropped.map(|reason| format!("host {host} dropped frames: {reason:?}")));
                if counters.asked > 1 + u64::from(is_silent) + self.now / 30_000_000 || counters.conflicts > 0
                {
                    wrong = Some(format!("host {host}: {counters:?}"));
                }
            }
            interface.on_time(later);
            interface
                .tcp()
                .connections(|id, information| wrong = Some(format!("{id:?} remains: {information:?}")));
            if let Some(wrong) = wrong {
                self.violate(wrong);
            }
        }
        self.outcome.frames.1 = self.ether.lost;
    }
}

/// Runs a plan, with a protection removed if a mutation is given.
pub fn run_lan(plan: &LanPlan, without: Option<mutation::Mutation>) -> LanOutcome {
    mutation::set(without);
    let mut lan = Lan::new(plan);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lan.run()));
    mutation::set(None);
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        lan.violate(format!("panic: {}", text.unwrap_or_default()));
    }
    lan.outcome
}
