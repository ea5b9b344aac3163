//! Runs one seed from its beginning to its end.

use std::net::SocketAddr;

use dst_tcp::mutation::{self, Mutation};
use dst_tcp::{Reason, SendCounters};

use crate::network::{Filter, Network, Packet};
use crate::observer::{Observer, print};
use crate::ours::Ours;
use crate::plan::Plan;
use crate::smol::SmolHost;

/// The longest that a conversation may take once the faults are over, in microseconds: a few
/// retries of the longest timeout.
const PATIENCE: u64 = 100_000_000;

/// The same limit with smoltcp, which retransmits one segment a second and needs a second each time
/// a small window opens.
const PATIENCE_WITH_SMOL: u64 = 2_000_000_000;

/// The result of a seed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The first violation.
    pub violation: Option<String>,
    /// When everything was received and closed, in microseconds.
    pub finished: u64,
    /// When the last byte of data arrived.
    pub received_at: u64,
    /// The counters of all connections of the stack under test together.
    pub counted: SendCounters,
    /// A digest of the run, which differs if anything went differently.
    pub trace: u64,
    /// The numbers of packets sent and lost.
    pub packets: (u64, u64),
}

enum Host {
    Ours(Box<Ours>),
    Smol(Box<SmolHost>),
}

impl Host {
    fn receive(&mut self, packet: Packet, now: u64) {
        match self {
            Host::Ours(host) => host.receive(packet, now),
            Host::Smol(host) => host.receive(packet),
        }
    }

    fn poll(&mut self, now: u64, out: &mut Vec<Packet>) {
        match self {
            Host::Ours(host) => host.poll(now, out),
            Host::Smol(host) => host.poll(now, out),
        }
    }

    fn deadline(&mut self, now: u64) -> Option<u64> {
        match self {
            Host::Ours(host) => host.deadline(),
            Host::Smol(host) => host.deadline(now),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Host::Ours(host) => host.user.is_done(),
            Host::Smol(host) => host.is_done(),
        }
    }

    fn violation(&mut self) -> Option<String> {
        match self {
            Host::Ours(host) => host.user.violation.take(),
            Host::Smol(host) => host.violation.take(),
        }
    }
}

/// Two hosts and their network.
pub struct World {
    /// The time, in microseconds.
    pub now: u64,
    plan: Plan,
    network: Network,
    hosts: [Host; 2],
    client: usize,
    observer: Observer,
    outcome: Outcome,
    /// Packets that have arrived at a host while it stalls.
    inbox: [Vec<Packet>; 2],
    /// The number of turns at the same time.
    turns: u32,
}

/// Returns a host's address.
pub fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 4460))
}

impl World {
    /// Returns the beginning of a plan's world.
    pub fn new(plan: &Plan, filter: Option<Filter>) -> World {
        let mut network = Network::new(plan.seed, plan.links.clone(), plan.cut, plan.faults_end);
        network.filter = filter;
        let client = usize::from(plan.smol.is_some_and(|smol| smol.connects));
        let mut first = Ours::new(0, address(0), plan, client == 0);
        let mut second = match plan.smol {
            None => Host::Ours(Box::new(Ours::new(1, address(1), plan, client == 1))),
            Some(smol) => Host::Smol(Box::new(SmolHost::new(address(1), address(0), plan, smol, 0))),
        };
        match (client, &mut second) {
            (0, _) => first.connect(address(1), 0),
            (_, Host::Ours(second)) => second.connect(address(0), 0),
            (_, Host::Smol(_)) => {}
        }
        World {
            now: 0,
            plan: plan.clone(),
            network,
            hosts: [Host::Ours(Box::new(first)), second],
            client,
            observer: Observer::default(),
            outcome: Outcome::default(),
            inbox: [Vec::new(), Vec::new()],
            turns: 0,
        }
    }

    fn is_stalled(&self, host: usize) -> bool {
        self.plan.stalls[host].contains(self.now)
    }

    /// Lets the hosts do what is due now.
    fn turn(&mut self) {
        while let Some((to, packet)) = self.network.arrived(self.now) {
            self.inbox[to].push(packet);
        }
        let mut out = Vec::new();
        for host in 0..2 {
            if self.is_stalled(host) {
                continue;
            }
            for packet in self.inbox[host].drain(..) {
                self.hosts[host].receive(packet, self.now);
            }
            self.hosts[host].poll(self.now, &mut out);
            for packet in out.drain(..) {
                self.note(host, &packet);
                self.network.send(host, packet, self.now);
            }
            if let Some(violation) = self.hosts[host].violation() {
                self.violate(violation);
            }
        }
        if let Host::Ours(host) = &self.hosts[1]
            && host.user.received > 0
            && self.outcome.received_at == 0
            && host.user.received == self.plan.connections.iter().map(|sides| sides[0].bytes).sum::<u64>()
        {
            self.outcome.received_at = self.now;
        }
    }

    fn note(&mut self, from: usize, packet: &Packet) {
        self.outcome.packets.0 += 1;
        if self.plan.history {
            print(self.now, from, packet);
        }
        let mut trace = self.outcome.trace;
        for byte in packet.bytes.iter().take(40).chain(&self.now.to_le_bytes()) {
            trace = (trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.outcome.trace = trace;
        let seen = self.observer.see(from, self.client, packet);
        if let (Some(violation), Host::Ours(_)) = (seen, &self.hosts[from]) {
            self.violate(violation);
        }
    }

    fn violate(&mut self, violation: String) {
        self.outcome.violation.get_or_insert(format!("at {} µs: {violation}", self.now));
    }

    /// Advances the time to the next event. Returns false if there will be none.
    fn advance(&mut self) -> bool {
        let mut next = self.network.next();
        for host in 0..2 {
            let deadline = self.hosts[host].deadline(self.now);
            let wakes = match (self.is_stalled(host), deadline, self.inbox[host].is_empty()) {
                (true, None, true) => None,
                (true, ..) => Some(self.plan.stalls[host].to),
                (false, deadline, _) => deadline,
            };
            next = [next, wakes].into_iter().flatten().min();
        }
        let Some(next) = next else { return false };
        if next > self.now {
            self.turns = 0;
            self.now = next;
        }
        self.turns += 1;
        if self.turns > 10_000 {
            self.violate("time stands still".to_string());
        }
        true
    }

    /// Runs until everything was sent, received and closed.
    fn run(&mut self) {
        let limit = self.plan.faults_end.min(1 << 40).saturating_add(if self.plan.smol.is_some() {
            PATIENCE_WITH_SMOL
        } else {
            PATIENCE
        });
        loop {
            self.turn();
            if self.outcome.violation.is_some() {
                return;
            }
            if self.hosts.iter().all(Host::is_done) {
                break;
            }
            if !self.advance() {
                return self.violate("nothing happens any more".to_string());
            }
            if self.now > limit {
                return self.violate("it takes too long".to_string());
            }
        }
        self.outcome.finished = self.now;
        self.check_end();
    }

    fn check_end(&mut self) {
        for host in 0..2 {
            let Host::Ours(ours) = &mut self.hosts[host] else { continue };
            let mut wrong = ours
                .user
                .ends
                .iter()
                .find(|end| **end != Reason::Finished)
                .map(|end| format!("host {host}: {end}"));
            if ours.user.has_buffers() {
                wrong = Some(format!("host {host} has not released all buffers"));
            }
            if self.plan.is_harmless() && self.network.lost == 0 && ours.user.counted.retransmitted > 0 {
                wrong = Some(format!("host {host} repeats what was not lost: {:?}", ours.user.counted));
            }
            self.outcome.counted.add(&ours.user.counted);
            // After this long, the stack must have forgotten all connections.
            ours.stack.on_time(self.now + 1_000_000_000);
            ours.stack
                .connections(|id, information| wrong = Some(format!("{id:?} remains: {information:?}")));
            if let Some(wrong) = wrong {
                self.violate(wrong);
            }
        }
        self.outcome.packets.1 = self.network.lost;
    }
}

/// Runs a plan, with a mechanism removed if a mutation is given, and without the packets that the
/// filter picks.
pub fn run(plan: &Plan, without: Option<Mutation>, filter: Option<Filter>) -> Outcome {
    mutation::set(without);
    let mut world = World::new(plan, filter);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    mutation::set(None);
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        world.violate(format!("panic: {}", text.unwrap_or_default()));
    }
    world.outcome
}
