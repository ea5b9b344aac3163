//! The interface's own addresses: probed before they are used (RFC 5227, RFC 4862), announced, and
//! defended.

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress as MacAddress;

use crate::config::Config;
use crate::event::NetEvent;
use crate::mutation::{Mutation, is_on};
use crate::prefix::Prefix;

/// How long other hosts have to say that they have an address, µs (RFC 4862, 5.1, with RFC 4861's
/// RETRANS_TIMER). RFC 5227 sends three probes, because its hosts choose their addresses by
/// themselves.
const PROBE_WAIT: u64 = 1_000_000;

/// The pause after which a question that found no room among the answers is sent again, µs.
const PROBE_RETRY: u64 = 1_000;

/// The number of announcements, and the pause between them, µs (RFC 5227, 1.1).
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: u64 = 2_000_000;

/// The time in which an address is defended only once, and after which an address that another host
/// has is tried again, µs (RFC 5227, 1.1).
const DEFEND_INTERVAL: u64 = 10_000_000;

/// The state of an address. Times are microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The question whether another host has the address is to be sent at `at`.
    New { at: u64 },
    /// The question was sent. The address is usable if no host answers until `until`.
    Probing { until: u64 },
    /// The address is in use, and is to be announced `left` more times, next at `at`.
    Announcing { left: u8, at: u64 },
    /// The address is in use.
    Usable,
    /// Another host has the address, which is tried again at `until`.
    Duplicate { until: u64 },
    /// The first shard of the interface has not found out yet whether the address is usable.
    Undecided,
}

#[derive(Debug)]
struct Address {
    prefix: Prefix,
    state: State,
    /// The time after which the address may be defended again.
    defend_at: u64,
}

impl Address {
    fn is_usable(&self) -> bool {
        matches!(self.state, State::Announcing { .. } | State::Usable)
    }
}

/// A message that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask whether another host has the address.
    Probe(IpAddr),
    /// Announce that this interface has the address.
    Announce(IpAddr),
}

/// The interface's own addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    list: Vec<Address>,
}

impl Addresses {
    pub fn new(prefixes: &[Prefix], config: &Config, now: u64) -> Addresses {
        let detect = config.detect_duplicates && !is_on(Mutation::NoDuplicateDetection);
        let state = match (config.shard.is_first(), detect) {
            (true, true) => State::New { at: now },
            (true, false) => State::Announcing { left: ANNOUNCEMENTS, at: now },
            (false, _) => State::Undecided,
        };
        let address = |prefix: &Prefix| Address { prefix: *prefix, state, defend_at: 0 };
        Addresses { list: prefixes.iter().map(address).collect() }
    }

    fn find(&mut self, address: IpAddr) -> Option<&mut Address> {
        self.list.iter_mut().find(|own| own.prefix.address == address)
    }

    /// Returns true if an address is this interface's, usable or not.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.list.iter().any(|own| own.prefix.address == address)
    }

    /// Returns true if an address is a usable address of this interface.
    pub fn is_usable(&self, address: IpAddr) -> bool {
        self.list.iter().any(|own| own.prefix.address == address && own.is_usable())
    }

    /// Returns which of the addresses are usable, a bit each.
    pub fn usable(&self) -> u32 {
        self.list.iter().enumerate().fold(0, |bits, (n, own)| bits | u32::from(own.is_usable()) << n)
    }

    /// Takes what the first shard's [`Addresses::usable`] says. What was usable once stays so.
    pub fn follow(&mut self, usable: u32) {
        for (n, own) in self.list.iter_mut().enumerate() {
            if own.state == State::Undecided && usable >> n & 1 == 1 {
                own.state = State::Usable;
            }
        }
    }

    /// Returns the usable address that packets to a next hop should come from: one in the next
    /// hop's network, or else the first one of its family, preferably not link-local.
    pub fn source_for(&self, next_hop: IpAddr) -> Option<IpAddr> {
        let of_family =
            |own: &&Address| own.is_usable() && own.prefix.address.is_ipv4() == next_hop.is_ipv4();
        let usable = || self.list.iter().filter(of_family).map(|own| own.prefix);
        let near = usable().find(|prefix| prefix.contains(next_hop));
        let far = || usable().find(|prefix| !crate::config::is_link_local(prefix.address));
        near.or_else(far).or_else(|| usable().next()).map(|prefix| prefix.address)
    }

    /// Handles another host's message that claims one of these addresses, or asks whether the
    /// address is free (`probes`). Returns true if the address has to be defended. `event` gets
    /// what the user is to be told.
    pub fn on_claim(
        &mut self,
        address: IpAddr,
        mac: MacAddress,
        probes: bool,
        now: u64,
        event: &mut impl FnMut(NetEvent),
    ) -> bool {
        let Some(own) = self.find(address) else { return false };
        match own.state {
            State::New { .. } | State::Probing { .. } => {
                own.state = State::Duplicate { until: now + DEFEND_INTERVAL };
                event(NetEvent::Duplicate(address, mac));
                false
            }
            State::Duplicate { .. } | State::Undecided => false,
            // A probe is answered like any question, which is all the defence it takes.
            State::Announcing { .. } | State::Usable if probes => false,
            State::Announcing { .. } | State::Usable => {
                let defends = now >= own.defend_at && !is_on(Mutation::NoDefence);
                if defends {
                    own.defend_at = now + DEFEND_INTERVAL;
                }
                defends
            }
        }
    }

    /// Does what is due. `send` gets each message to be sent, and returns false if there is no room
    /// for it. `event` gets each event for the user.
    pub fn on_time(
        &mut self,
        now: u64,
        send: &mut impl FnMut(Due) -> bool,
        event: &mut impl FnMut(NetEvent),
    ) {
        for own in &mut self.list {
            let address = own.prefix.address;
            own.state = match own.state {
                // An address is not used before the question was sent.
                State::New { at } if now >= at => match send(Due::Probe(address)) {
                    true => State::Probing { until: now + PROBE_WAIT },
                    false => State::New { at: now + PROBE_RETRY },
                },
                State::Probing { until } if now >= until => {
                    event(NetEvent::Usable(address));
                    send(Due::Announce(address));
                    State::Announcing { left: ANNOUNCEMENTS - 1, at: now + ANNOUNCE_INTERVAL }
                }
                State::Announcing { left, at } if now >= at => {
                    if left == ANNOUNCEMENTS {
                        event(NetEvent::Usable(address));
                    }
                    send(Due::Announce(address));
                    match left - 1 {
                        0 => State::Usable,
                        left => State::Announcing { left, at: now + ANNOUNCE_INTERVAL },
                    }
                }
                State::Duplicate { until } if now >= until => match send(Due::Probe(address)) {
                    true => State::Probing { until: now + PROBE_WAIT },
                    false => State::Duplicate { until: now + PROBE_RETRY },
                },
                state => state,
            };
        }
    }

    /// Returns the time at which [`Addresses::on_time`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        let at = |own: &Address| match own.state {
            State::New { at } | State::Announcing { at, .. } => Some(at),
            State::Probing { until } | State::Duplicate { until } => Some(until),
            State::Usable | State::Undecided => None,
        };
        self.list.iter().filter_map(at).min()
    }

    /// Returns the IPv6 addresses that are in use or about to be.
    pub fn ipv6(&self) -> impl Iterator<Item = std::net::Ipv6Addr> {
        self.list.iter().filter_map(|own| match own.prefix.address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    struct Test {
        addresses: Addresses,
        address: IpAddr,
        told: Vec<NetEvent>,
    }

    impl Test {
        fn new(detect_duplicates: bool) -> Test {
            let address = IpAddr::from([10, 0, 0, 1]);
            let prefixes = vec![Prefix::new(address, 24)];
            let config =
                Config { detect_duplicates, ..Config::new(MacAddress([2, 0, 0, 0, 0, 1]), prefixes.clone()) };
            Test { addresses: Addresses::new(&prefixes, &config, 0), address, told: Vec::new() }
        }

        fn at(&mut self, now: u64) -> Vec<Due> {
            let (mut due, told) = (Vec::new(), &mut self.told);
            let mut send = |what| {
                due.push(what);
                true
            };
            self.addresses.on_time(now, &mut send, &mut |event| told.push(event));
            due
        }

        fn claim(&mut self, probes: bool, now: u64) -> bool {
            let told = &mut self.told;
            self.addresses.on_claim(self.address, OTHER, probes, now, &mut |event| told.push(event))
        }
    }

    #[test]
    fn a_free_address_is_probed_used_and_announced() {
        let mut test = Test::new(true);
        let address = test.address;
        assert_eq!(test.at(0), [Due::Probe(address)]);
        assert_eq!(test.at(999_999), []);
        assert!(!test.addresses.is_usable(address) && test.addresses.is_own(address));
        assert_eq!(test.addresses.source_for(address), None);
        assert_eq!(test.at(1_000_000), [Due::Announce(address)]);
        assert!(test.addresses.is_usable(address));
        assert_eq!(test.addresses.source_for(address), Some(address));
        assert_eq!(test.addresses.deadline(), Some(3_000_000));
        assert_eq!(test.at(3_000_000), [Due::Announce(address)]);
        assert_eq!((test.addresses.deadline(), test.told), (None, vec![NetEvent::Usable(address)]));
    }

    #[test]
    fn an_address_that_another_host_has_is_not_used_and_tried_again() {
        for probes in [false, true] {
            let mut test = Test::new(true);
            let address = test.address;
            test.at(0);
            assert!(!test.claim(probes, 500_000));
            assert_eq!(test.told, [NetEvent::Duplicate(address, OTHER)]);
            assert_eq!(test.at(1_000_000), []);
            assert!(!test.addresses.is_usable(address));
            assert_eq!(test.at(10_500_000), [Due::Probe(address)]);
            assert_eq!(test.at(11_500_000), [Due::Announce(address)]);
            assert!(test.addresses.is_usable(address));
        }
    }

    #[test]
    fn an_address_in_use_is_defended_and_never_given_up() {
        let mut test = Test::new(false);
        let address = test.address;
        assert_eq!(test.at(0), [Due::Announce(address)]);
        assert!(test.claim(false, 1) && !test.claim(false, 2) && !test.claim(true, 20_000_000));
        assert!(test.claim(false, 20_000_001));
        assert!(test.addresses.is_usable(address));
        assert_eq!(test.told, [NetEvent::Usable(address)]);
    }
}
