//! The link-layer addresses of other hosts: a cache with the states of RFC 4861, 7.3.2, for ARP as
//! well.

use std::collections::HashMap;
use std::net::IpAddr;

use dst_tcp::Secret;
use smoltcp::wire::EthernetAddress as MacAddress;

use crate::config::Config;
use crate::mutation::{Mutation, is_on};

/// In this order: the number of times that a neighbour is asked for, the pause between these, how
/// long an answer is valid, and how long other signs of life are waited for after that (RFC 4861,
/// 10). All times are microseconds.
const MAX_ASKED: u8 = 3;
const RETRANS_TIMER: u64 = 1_000_000;
const REACHABLE_TIME: u64 = 30_000_000;
const DELAY_FIRST_PROBE_TIME: u64 = 5_000_000;

/// How long a neighbour that did not answer is not asked for again, µs. A neighbour that is gone
/// thus costs one round of questions in four seconds, whatever is sent to it.
const FAILED_TIME: u64 = 1_000_000;

/// How long an ARP answer cannot be replaced, µs, so that the answers of two hosts do not
/// alternate. This is Linux's locktime.
const FRESH_TIME: u64 = 1_000_000;

/// The state of a neighbour. Times are microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The neighbour was asked for `asked` times. At `at` it is asked for again, or given up.
    Incomplete { asked: u8, at: u64 },
    /// The neighbour answered at `since`.
    Reachable { mac: MacAddress, since: u64 },
    /// The neighbour was not heard from for a while, or was never asked.
    Stale { mac: MacAddress },
    /// The address is in use. At `until` the neighbour is asked whether it still has the address.
    Delay { mac: MacAddress, until: u64 },
    /// The neighbour was asked `asked` times whether it still has the address. At `at` it is asked
    /// again, or forgotten.
    Probe { mac: MacAddress, asked: u8, at: u64 },
    /// The neighbour does not answer. After `until` it may be asked for again.
    Failed { until: u64 },
}

impl State {
    fn mac(self) -> Option<MacAddress> {
        match self {
            State::Reachable { mac, .. }
            | State::Stale { mac }
            | State::Delay { mac, .. }
            | State::Probe { mac, .. } => Some(mac),
            State::Incomplete { .. } | State::Failed { .. } => None,
        }
    }

    /// Returns the time at which something has to be done.
    fn deadline(self) -> Option<u64> {
        match self {
            State::Incomplete { at, .. } | State::Probe { at, .. } => Some(at),
            State::Delay { until, .. } => Some(until),
            // These states are examined when the neighbour is used.
            State::Reachable { .. } | State::Stale { .. } | State::Failed { .. } => None,
        }
    }

    /// Returns the value of keeping the neighbour, or `None` if it is being asked for and must
    /// stay.
    fn worth(self) -> Option<u8> {
        match self {
            State::Failed { .. } => Some(0),
            State::Stale { .. } => Some(1),
            State::Reachable { .. } | State::Delay { .. } | State::Probe { .. } => Some(2),
            State::Incomplete { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Neighbour {
    address: IpAddr,
    state: State,
    /// The time at which something was last sent to the neighbour; 0 means never.
    used_at: u64,
}

/// Where a frame to a neighbour goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// To this link-layer address, which is valid until `until`.
    Known { mac: MacAddress, until: u64 },
    /// The neighbour is being asked for.
    Asked,
    /// The neighbour does not answer.
    Failed,
    /// The neighbour is not known, and cannot be asked for because too many others are.
    Full,
}

/// The party on whose behalf a neighbour is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behalf {
    /// A connection that this host knows.
    Own,
    /// A peer whose address may be invented, which is sent a reset or the answer to a SYN.
    Stranger,
}

/// How a link-layer address was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The neighbour wants to talk to this host, so it is added even if nothing was known of it.
    pub creates: bool,
    /// The message claims to be an answer.
    pub answers: bool,
    /// The link-layer address replaces a different one that is known.
    pub replaces: bool,
}

/// An action that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask for a neighbour: all hosts, or the one with this link-layer address.
    Ask(IpAddr, Option<MacAddress>),
    /// The neighbour did not answer.
    Failed(IpAddr),
}

/// The neighbours of an interface.
#[derive(Debug)]
pub(crate) struct Neighbours {
    slots: Vec<Option<Neighbour>>,
    free: Vec<usize>,
    index: HashMap<IpAddr, usize, Secret>,
    /// The number of neighbours that are being asked for.
    resolving: usize,
    max_resolving: usize,
    /// Nothing has to be done before this time.
    earliest: u64,
    /// Changes whenever anything that is known changes.
    pub version: u64,
}

impl Neighbours {
    pub fn new(config: &Config, secret: Secret) -> Neighbours {
        let most = config.max_neighbours;
        Neighbours {
            slots: (0..most).map(|_| None).collect(),
            free: (0..most).rev().collect(),
            // With twice the capacity, the map never grows, however often entries come and go.
            index: HashMap::with_capacity_and_hasher(2 * most, secret),
            resolving: 0,
            max_resolving: config.max_resolving,
            earliest: u64::MAX,
            version: 0,
        }
    }

    fn get(&self, address: IpAddr) -> Option<(usize, &Neighbour)> {
        let slot = *self.index.get(&address)?;
        self.slots[slot].as_ref().map(|neighbour| (slot, neighbour))
    }

    /// Returns the link-layer address of a neighbour, if it is known.
    pub fn mac(&self, address: IpAddr) -> Option<MacAddress> {
        self.get(address)?.1.state.mac()
    }

    /// Returns true if a neighbour has answered within the last [`FRESH_TIME`].
    pub fn is_fresh(&self, address: IpAddr, now: u64) -> bool {
        let since = self.get(address).map(|(_, neighbour)| neighbour.state);
        matches!(since, Some(State::Reachable { since, .. }) if now - since < FRESH_TIME)
    }

    fn set(&mut self, slot: usize, state: State) {
        let Some(neighbour) = &mut self.slots[slot] else { return };
        let is_resolving = |state| usize::from(matches!(state, State::Incomplete { .. }));
        self.resolving = self.resolving + is_resolving(state) - is_resolving(neighbour.state);
        neighbour.state = state;
        self.earliest = self.earliest.min(state.deadline().unwrap_or(u64::MAX));
        self.version += 1;
    }

    fn remove(&mut self, slot: usize) {
        if let Some(neighbour) = self.slots[slot].take() {
            self.resolving -= usize::from(matches!(neighbour.state, State::Incomplete { .. }));
            self.index.remove(&neighbour.address);
            self.free.push(slot);
            self.version += 1;
        }
    }

    /// Adds a neighbour. If there is no room, it replaces the least valuable neighbour, and among
    /// equals the least recently used one. Returns false if none can be replaced.
    fn add(&mut self, address: IpAddr, state: State, used_at: u64) -> bool {
        if self.free.is_empty() {
            let value = |(slot, neighbour): (usize, &Option<Neighbour>)| {
                let neighbour = neighbour.as_ref()?;
                Some((neighbour.state.worth()?, neighbour.used_at, slot))
            };
            let Some((.., slot)) = self.slots.iter().enumerate().filter_map(value).min() else {
                return false;
            };
            self.remove(slot);
        }
        let Some(slot) = self.free.pop() else { return false };
        // `set` counts the neighbour as being asked for.
        self.slots[slot] = Some(Neighbour { address, state: State::Failed { until: 0 }, used_at });
        self.index.insert(address, slot);
        self.set(slot, state);
        true
    }

    fn may_ask(&self, behalf: Behalf) -> bool {
        let most = match behalf {
            Behalf::Own => self.max_resolving,
            Behalf::Stranger => self.max_resolving / 2,
        };
        self.resolving < most || is_on(Mutation::NoResolvingLimit)
    }

    /// Returns where a frame to a neighbour goes, and asks for the neighbour if it is not known.
    pub fn hop(&mut self, address: IpAddr, behalf: Behalf, now: u64) -> Hop {
        let incomplete = State::Incomplete { asked: 0, at: now };
        let may_ask = self.may_ask(behalf);
        let Some(slot) = self.index.get(&address).copied() else {
            return if may_ask && self.add(address, incomplete, now) { Hop::Asked } else { Hop::Full };
        };
        let Some(neighbour) = &mut self.slots[slot] else { return Hop::Full };
        neighbour.used_at = now;
        match neighbour.state {
            State::Incomplete { .. } => Hop::Asked,
            State::Failed { until } if now < until => Hop::Failed,
            State::Failed { .. } if !may_ask => Hop::Full,
            State::Failed { .. } => {
                self.set(slot, incomplete);
                Hop::Asked
            }
            State::Delay { mac, until } | State::Probe { mac, at: until, .. } => Hop::Known { mac, until },
            State::Reachable { mac, since } if now - since < REACHABLE_TIME || is_on(Mutation::NoRefresh) => {
                Hop::Known { mac, until: since + REACHABLE_TIME }
            }
            State::Reachable { mac, .. } | State::Stale { mac } => {
                let until = now + DELAY_FIRST_PROBE_TIME;
                self.set(slot, State::Delay { mac, until });
                Hop::Known { mac, until }
            }
        }
    }

    /// Takes what a neighbour says of its link-layer address (RFC 4861, 7.2.3 and 7.2.5). Returns
    /// true if frames may have waited for the address.
    pub fn learn(&mut self, address: IpAddr, mac: MacAddress, evidence: Evidence, now: u64) -> bool {
        let Some((slot, neighbour)) = self.get(address) else {
            if evidence.creates || is_on(Mutation::NoStrangerCheck) {
                self.add(address, State::Stale { mac }, 0);
            }
            return false;
        };
        let state = neighbour.state;
        // Whether the neighbour was asked is known here; the message's word for it is not enough.
        let asked = matches!(state, State::Probe { .. } | State::Incomplete { asked: 1.., .. });
        let answers = evidence.answers && (asked || is_on(Mutation::NoQuestionCheck));
        let heard = if answers { State::Reachable { mac, since: now } } else { State::Stale { mac } };
        match state.mac() {
            None => {
                self.set(slot, heard);
                return true;
            }
            Some(known) if known == mac => {
                if answers {
                    self.set(slot, heard);
                }
            }
            Some(_) if evidence.replaces => self.set(slot, heard),
            // The answers contradict each other, so the neighbour will be asked.
            Some(known) => {
                if matches!(state, State::Reachable { .. }) {
                    self.set(slot, State::Stale { mac: known });
                }
            }
        }
        false
    }

    /// Does what is due. `act` gets each action for the caller.
    pub fn on_time(&mut self, now: u64, act: &mut impl FnMut(Due)) {
        if now < self.earliest {
            return;
        }
        self.earliest = u64::MAX;
        for slot in 0..self.slots.len() {
            let Some(neighbour) = &self.slots[slot] else { continue };
            let (address, state) = (neighbour.address, neighbour.state);
            match state.deadline() {
                None => {}
                Some(at) if at > now => self.earliest = self.earliest.min(at),
                Some(_) => self.advance(slot, address, state, now, act),
            }
        }
    }

    /// Advances a neighbour whose time has come.
    fn advance(&mut self, slot: usize, address: IpAddr, state: State, now: u64, act: &mut impl FnMut(Due)) {
        let at = now + RETRANS_TIMER;
        match state {
            State::Incomplete { asked: MAX_ASKED, .. } if !is_on(Mutation::NoFailure) => {
                self.set(slot, State::Failed { until: now + FAILED_TIME });
                act(Due::Failed(address));
            }
            State::Incomplete { asked, .. } => {
                self.set(slot, State::Incomplete { asked: (asked + 1).min(MAX_ASKED), at });
                if asked == 0 || !is_on(Mutation::NoRetry) {
                    act(Due::Ask(address, None));
                }
            }
            // The neighbour may have a different link-layer address now. The next frame to it asks
            // all hosts.
            State::Probe { asked: MAX_ASKED, .. } => self.remove(slot),
            State::Probe { mac, asked, .. } => {
                self.set(slot, State::Probe { mac, asked: asked + 1, at });
                act(Due::Ask(address, Some(mac)));
            }
            State::Delay { mac, .. } => {
                self.set(slot, State::Probe { mac, asked: 1, at });
                act(Due::Ask(address, Some(mac)));
            }
            State::Reachable { .. } | State::Stale { .. } | State::Failed { .. } => {}
        }
    }

    /// Returns the time at which [`Neighbours::on_time`] may have something to do.
    pub fn deadline(&self) -> Option<u64> {
        (self.earliest < u64::MAX).then_some(self.earliest)
    }
}

#[cfg(test)]
#[path = "neighbours_tests.rs"]
mod tests;
