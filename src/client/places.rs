//! The places where a bdev looks for its target, and the addresses to which they resolve.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use dst_session::addresses::Addresses;
use dst_session::paths::{PathPolicy, Paths};
use spdk::resolve::Lookup;

use crate::address::{Address, Family, Place};
use crate::channels::lock;

mod paths;

pub use paths::PathState;

/// The maximum number of addresses of one target, including those to which its names resolve.
pub const ADDRESSES_MAX: usize = 16;

/// The places where a target is looked for. Written by the control connection, read by channels
/// that begin to connect.
#[derive(Debug)]
pub struct Places {
    state: Mutex<PlacesState>,
    /// The number of changes of the address to which channels connect. Raised by the control
    /// connection under the lock; read by channels that connect: `Relaxed`, as a channel takes the
    /// lock next.
    address_changes: AtomicU64,
    /// The number of times the user has repointed the bdev. Raised by the control connection under
    /// the lock. `Release` and `Acquire`: a channel that sees a change and then takes the lock sees
    /// those places or newer ones.
    repoints: AtomicU64,
    /// The number of changes of the paths' states. Raised by the control connection and by channels
    /// under the lock; read by channels, which take the lock next: `Relaxed`.
    path_changes: AtomicU64,
}

/// The address and port to connect to, and the numbers of changes by which the caller notices that
/// they are out of date; all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address at which the control connection was admitted last, or which a channel is to use;
    /// `None` if no name was resolved yet.
    pub address: Option<Address>,
    /// The port.
    pub port: u16,
    /// The value of [`Places::address_changes`] at that moment.
    pub address_change: u64,
    /// The value of [`Places::repoints`] at that moment.
    pub repoint: u64,
}

/// The places of a target, as the user gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPlaces {
    /// The places, at least one.
    pub places: Vec<Place>,
    /// The port, the same at each place.
    pub port: u16,
    /// The family of the addresses to which names resolve, or `None` for both families.
    pub family: Option<Family>,
    /// How channels use the addresses.
    pub policy: PathPolicy,
}

#[derive(Debug)]
struct PlacesState {
    target: TargetPlaces,
    addresses: Addresses<Address>,
    /// The state of each of `addresses`.
    paths: Paths<Address>,
    /// The id of the session that channels join.
    session: Option<[u8; 16]>,
    /// The addresses to which each name resolved last.
    resolved: Vec<(String, Vec<Address>)>,
}

impl Places {
    /// Returns these places. Their names are not resolved yet.
    pub fn new(target: TargetPlaces) -> Places {
        let addresses = Addresses::new(target.places.iter().filter_map(Place::address).cloned());
        let mut paths = Paths::default();
        paths.replace(addresses.all());
        let state = PlacesState { target, addresses, paths, session: None, resolved: Vec::new() };
        Places {
            state: Mutex::new(state),
            address_changes: AtomicU64::new(0),
            repoints: AtomicU64::new(0),
            path_changes: AtomicU64::new(0),
        }
    }

    /// Replaces the places. Control connection only.
    pub fn repoint(&self, target: TargetPlaces) {
        let state = &mut *lock(&self.state);
        state.addresses.replace(target.places.iter().filter_map(Place::address).cloned());
        // The paths' states are forgotten, since the same address may have another port.
        state.paths = Paths::default();
        state.paths.replace(state.addresses.all());
        state.target = target;
        state.resolved.clear();
        self.path_changes.fetch_add(1, Relaxed);
        self.address_changes.fetch_add(1, Relaxed);
        self.repoints.fetch_add(1, Release);
    }

    /// Returns a number that is higher after each [`Places::repoint`]. HOT.
    #[inline]
    pub fn repoints(&self) -> u64 {
        self.repoints.load(Acquire)
    }

    /// Returns the places as the user gave them.
    pub fn given(&self) -> TargetPlaces {
        lock(&self.state).target.clone()
    }

    /// Returns the names to be resolved before the next attempt: all if the attempt begins a round,
    /// otherwise none.
    pub fn names_due(&self) -> Vec<String> {
        let state = lock(&self.state);
        if !state.addresses.is_round_over() && !state.addresses.all().is_empty() && !state.resolved.is_empty()
        {
            return Vec::new();
        }
        state.target.places.iter().filter_map(Place::name).map(str::to_owned).collect()
    }

    /// Takes the results of resolving names. A name that does not resolve keeps its previous
    /// addresses. Returns the reasons if there are such names.
    pub fn resolved(&self, names: &[String], lookups: Vec<Lookup>) -> Option<String> {
        let state = &mut *lock(&self.state);
        let family = state.target.family;
        let mut failures = Vec::new();
        for (name, lookup) in names.iter().zip(lookups) {
            let found = match lookup {
                Ok(found) => {
                    let fits = |found: &SocketAddr| family.is_none_or(|family| family.has(found.ip()));
                    found.into_iter().filter(fits).map(Address::from).collect()
                }
                Err(why) => {
                    failures.push(format!("{name}: {why}"));
                    continue;
                }
            };
            state.resolved.retain(|(other, _)| other != name);
            state.resolved.push((name.clone(), found));
        }
        let mut addresses: Vec<Address> = Vec::new();
        for place in &state.target.places {
            match place {
                Place::Address(address) => addresses.push(address.clone()),
                Place::Name(name) => {
                    let found = state.resolved.iter().find(|(other, _)| other == name);
                    addresses.extend(found.into_iter().flat_map(|(_, found)| found.iter().cloned()));
                }
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        let before = state.addresses.current().cloned();
        state.addresses.replace(addresses);
        state.paths.replace(state.addresses.all());
        self.path_changes.fetch_add(1, Relaxed);
        if state.addresses.current() != before.as_ref() {
            self.address_changes.fetch_add(1, Relaxed);
        }
        (!failures.is_empty()).then(|| failures.join("; "))
    }

    /// Returns the destination at which the control connection was admitted last.
    pub fn current(&self) -> Destination {
        let state = lock(&self.state);
        self.at(&state, state.addresses.current())
    }

    fn at(&self, state: &PlacesState, address: Option<&Address>) -> Destination {
        Destination {
            address: address.cloned(),
            port: state.target.port,
            address_change: self.address_changes.load(Relaxed),
            repoint: self.repoints.load(Relaxed),
        }
    }

    /// Returns a number that is higher after each change of the address of [`Places::current`].
    pub fn address_changes(&self) -> u64 {
        self.address_changes.load(Relaxed)
    }

    /// Calls `f` with the addresses, which it may change. Control connection only.
    pub fn with_addresses<R>(&self, f: impl FnOnce(&mut Addresses<Address>) -> R) -> R {
        let state = &mut *lock(&self.state);
        let before = state.addresses.current().cloned();
        let result = f(&mut state.addresses);
        if state.addresses.current() != before.as_ref() {
            self.address_changes.fetch_add(1, Relaxed);
        }
        result
    }

    /// Returns the address in use and the port as text; the names if they were not resolved yet.
    pub fn shown(&self) -> String {
        let Destination { address, port, .. } = self.current();
        address.map_or_else(|| self.all_shown(), |address| format!("{address} port {port}"))
    }

    /// Returns an address and the port as text; without an address, the same as [`Places::shown`].
    pub fn shown_at(&self, address: Option<&Address>) -> String {
        match address {
            Some(address) => format!("{address} port {}", self.current().port),
            None => self.shown(),
        }
    }

    /// Returns all places and the port as text.
    pub fn all_shown(&self) -> String {
        let TargetPlaces { places, port, .. } = self.given();
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        format!("{} port {port}", places.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(texts: &[&str], port: u16) -> TargetPlaces {
        let places = texts.iter().map(|text| text.parse().unwrap()).collect();
        TargetPlaces { places, port, family: None, policy: PathPolicy::Failover }
    }

    fn race(places: &Places) -> Vec<String> {
        places.with_addresses(Addresses::next_race).iter().map(ToString::to_string).collect()
    }

    fn found(texts: &[&str]) -> Lookup {
        Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn names_are_resolved_before_each_round_and_keep_what_they_had() {
        let places = Places::new(target(&["one", "192.0.2.1"], 7));
        let names = places.names_due();
        assert_eq!((names.clone(), places.shown()), (vec!["one".to_owned()], "192.0.2.1 port 7".to_owned()));
        assert_eq!(places.resolved(&names, vec![found(&["192.0.2.9:0", "[fe80::1%3]:0"])]), None);
        assert_eq!(race(&places), ["192.0.2.9", "fe80::1%3", "192.0.2.1"]);
        assert!(places.names_due().is_empty(), "the round goes on");
        places.with_addresses(Addresses::unreached);
        assert_eq!(places.names_due(), names);
        let why = places.resolved(&names, vec![Err("no such name".to_owned())]);
        assert_eq!(why, Some("one: no such name".to_owned()));
        assert_eq!(race(&places), ["192.0.2.9", "fe80::1%3", "192.0.2.1"], "a name server may be down");
        places.with_addresses(Addresses::unreached);
        assert_eq!(places.resolved(&names, vec![found(&["192.0.2.8:0"])]), None);
        assert_eq!(race(&places), ["192.0.2.8", "192.0.2.1"]);
    }

    #[test]
    fn a_name_can_not_make_the_addresses_many() {
        let places = Places::new(target(&["a", "b", "c"], 7));
        let names = places.names_due();
        let many = |net: u8| Ok((0..8).map(|host| ([10, 0, net, host], 0).into()).collect());
        assert_eq!(places.resolved(&names, vec![many(1), many(2), many(3)]), None);
        assert_eq!(race(&places).len(), ADDRESSES_MAX);
    }

    #[test]
    fn only_addresses_of_the_family_are_taken_of_a_name() {
        let places = Places::new(TargetPlaces { family: Some(Family::V6), ..target(&["one"], 7) });
        let names = places.names_due();
        assert_eq!(places.resolved(&names, vec![found(&["192.0.2.9:0", "[2001:db8::9]:0"])]), None);
        assert_eq!(race(&places), ["2001:db8::9"]);
    }

    #[test]
    fn channels_hear_of_other_places() {
        let places = Places::new(target(&["192.0.2.1"], 7));
        let before = (places.repoints(), places.address_changes());
        places.repoint(target(&["name"], 8));
        assert!(places.repoints() != before.0 && places.address_changes() != before.1);
        assert_eq!((places.current().address, places.shown()), (None, "name port 8".to_owned()));
    }

    /// Or a channel would stay where it is, as it takes an address of before for one of after.
    #[test]
    fn a_channel_that_connects_sees_places_of_one_moment() {
        const CHANGES: u64 = 20_000;
        let of = |change: u64| target(&[["192.0.2.1", "192.0.2.2"][change as usize % 2]], change as u16 % 2);
        let places = Places::new(of(0));
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=CHANGES).for_each(|change| places.repoint(of(change))));
            loop {
                let seen = places.current();
                let address = of(seen.repoint).places[0].address().cloned();
                assert_eq!((&seen.address, u64::from(seen.port)), (&address, seen.repoint % 2), "{seen:?}");
                assert_eq!(seen.address_change, seen.repoint);
                if seen.repoint == CHANGES {
                    break;
                }
            }
        });
    }
}
