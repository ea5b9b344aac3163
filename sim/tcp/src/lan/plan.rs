//! What a seed decides on an Ethernet.

use std::net::IpAddr;

use dst_net::{Config, MacAddress, Prefix};
use world::rng::Rng;

use crate::plan::Plan;

/// A host that repeatedly claims to have the second host's address.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impostor {
    /// The time of the first claim.
    pub first: Option<u64>,
    /// The pause between two claims.
    pub pause: u64,
}

/// Everything that a seed decides on an Ethernet.
#[derive(Debug, Clone)]
pub struct LanPlan {
    /// What the users do and what happens to frames. Here, `links[..].longest` is about IP packets.
    pub users: Plan,
    /// Whether the hosts talk over IPv6.
    pub is_ipv6: bool,
    /// The settings of the interfaces.
    pub configs: [Config; 2],
    /// How many of 1,000 messages of ARP and neighbour discovery are lost in addition.
    pub lost_questions: u64,
    /// Whether a router reports the packets that it drops because they exceed `links[..].longest`.
    pub router_speaks: bool,
    /// The host that claims another host's address.
    pub impostor: Impostor,
}

/// Returns the link-layer address of a host.
pub fn mac(host: usize) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, host as u8 + 1])
}

/// Returns both addresses of a host.
fn addresses(host: usize) -> [IpAddr; 2] {
    let last = host as u8 + 1;
    [IpAddr::from([10, 0, 0, last]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)])]
}

impl LanPlan {
    /// Returns the plan of a seed.
    pub fn new(seed: u64) -> LanPlan {
        let mut users = Plan::new(seed ^ 0x6c61_6e00);
        let rng = &mut Rng::new(seed ^ 0x006c_616e_0000_0000);
        users.seed = seed;
        users.smol = None;
        users.links.iter_mut().for_each(|link| {
            link.longest = 0;
            link.delay = link.delay.min(1_000);
        });
        if users.connections.len() > 1 && rng.chance(500) {
            users.connections.truncate(1);
        }
        let vlan = rng.chance(300).then(|| rng.range(1, 4094) as u16);
        let mut config = |host: usize| {
            let prefixes = vec![Prefix::new(addresses(host)[0], 24), Prefix::new(addresses(host)[1], 64)];
            let mut config = Config::new(mac(host), prefixes);
            config.mtu = rng.pick(&[1280, 1500, 1500, 9000]);
            config.vlan = vlan;
            config.detect_duplicates = rng.chance(700);
            config.max_waiting = rng.pick(&[1, 4, 64]);
            config.max_waiting_each = rng.pick(&[1, 8]);
            config.tcp = users.configs[host].clone();
            config
        };
        let mut configs = [config(0), config(1)];
        let is_ipv6 = rng.chance(500);
        let router_speaks = rng.chance(500);
        if rng.chance(150) {
            users.links[rng.index(2)].longest = rng.range(1290, 1499) as usize;
        }
        let lost_questions = if rng.chance(400) { rng.range(1, 700) } else { 0 };
        let claims = rng.chance(150);
        let impostor =
            Impostor { first: claims.then(|| rng.below(1_500_000)), pause: rng.range(100_000, 5_000_000) };
        // Mostly, the interface cuts long segments, as it does by default.
        let offload_bytes = rng.pick(&[0, 20_000, u32::MAX, u32::MAX]);
        configs.iter_mut().for_each(|config| config.tcp.offload_bytes = offload_bytes);
        LanPlan { users, is_ipv6, configs, lost_questions, router_speaks, impostor }
    }

    /// Returns the address at which the other host reaches this one.
    pub fn address(&self, host: usize) -> IpAddr {
        addresses(host)[usize::from(self.is_ipv6)]
    }

    /// Returns whether a host may be told that another host has its address.
    pub fn may_conflict(&self) -> bool {
        self.impostor.first.is_some()
    }

    /// Returns whether nothing goes wrong below TCP.
    pub fn is_harmless(&self) -> bool {
        self.users.is_harmless() && self.lost_questions == 0 && !self.may_conflict()
    }
}
