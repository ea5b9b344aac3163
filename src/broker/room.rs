//! Room for connections: how many each address and host may have, and which connection is evicted
//! when there is no room.
//!
//! Anybody can connect and send nothing. Such connections do not hold up the connections that are
//! admitted. When there are too many of them, the newest replaces the oldest one of the address
//! that has the most. A genuine client needs one round trip to be admitted, or two with a key.
//! After the first of these two it has proved a key, and connections without a proof are evicted
//! before it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::ids::ClientId;
use crate::limits::Limits;

/// The number of evicted connections, still to be closed, at which listeners stop accepting.
pub const EVICTIONS_MAX: usize = 32;

/// Whether there is room for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vacancy {
    /// There is room.
    Free,
    /// There is room once this connection is evicted.
    InsteadOf(u64),
    /// There is no room, and no connection that may be evicted.
    None,
}

/// Connections in their handshake, by address.
#[derive(Debug, Clone, Default)]
struct Crowd {
    of_addresses: BTreeMap<IpAddr, BTreeSet<u64>>,
    /// For each address, the number of its handshakes and the oldest of them. The last element is
    /// the address to evict from: the one with the most handshakes, and among equals the one with
    /// the oldest handshake.
    by_count: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    len: usize,
}

impl Crowd {
    /// Applies `f` to the handshakes of an address, and updates the counts.
    fn change(&mut self, address: IpAddr, f: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let key = |its: &BTreeSet<u64>| its.first().map(|&oldest| (its.len(), Reverse(oldest), address));
        let its = self.of_addresses.entry(address).or_default();
        self.len -= its.len();
        if let Some(before) = key(its) {
            self.by_count.remove(&before);
        }
        f(its);
        self.len += its.len();
        match key(its) {
            Some(after) => drop(self.by_count.insert(after)),
            None => drop(self.of_addresses.remove(&address)),
        }
    }

    fn insert(&mut self, id: u64, address: IpAddr) {
        self.change(address, |its| its.insert(id));
    }

    fn remove(&mut self, id: u64, address: IpAddr) {
        self.change(address, |its| its.remove(&id));
    }

    /// Returns the number of handshakes of this address, and the oldest of them.
    fn of(&self, address: IpAddr) -> (usize, Option<u64>) {
        let its = self.of_addresses.get(&address);
        its.map_or((0, None), |its| (its.len(), its.first().copied()))
    }

    /// Returns the number of all handshakes, and the oldest one of the address that has the most.
    fn all(&self) -> (usize, Option<u64>) {
        (self.len, self.by_count.last().map(|&(_, Reverse(oldest), _)| oldest))
    }
}

/// Returns which of at most `max` handshakes to evict. `unknown` and `proven` are the number and
/// the oldest of the handshakes that have proved no key and of those that have. Those with a key
/// are evicted last, unless they are more than half: the proof can be overheard and repeated, and
/// an attacker who repeats it must not take up all the room.
fn victim(unknown: (usize, Option<u64>), proven: (usize, Option<u64>), max: u32) -> Option<u64> {
    let (first, then) = if 2 * proven.0 > max as usize { (proven, unknown) } else { (unknown, proven) };
    first.1.or(then.1)
}

/// The connections that are not admitted yet, and the number of connections of each host.
/// Connection numbers only rise, so the lowest number is the oldest connection.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// The connections that may be evicted, which are neither admitted nor waiting to be, each with
    /// its address and whether it has proved a key.
    handshakes: BTreeMap<u64, (IpAddr, bool)>,
    unknown: Crowd,
    proven: Crowd,
    /// The evicted connections that are not closed yet.
    evicted: BTreeSet<u64>,
    /// The client of each counted connection: one that is admitted or waits to be.
    clients: BTreeMap<u64, ClientId>,
    of_clients: BTreeMap<ClientId, usize>,
    /// The number of connections evicted to make room for another one, since the start.
    pub evictions: u64,
    /// The number of connections for which there was no room, since the start.
    pub refused: u64,
}

/// Returns the network that counts as one address: the /64 of an IPv6 address, because a machine
/// that has one of its addresses can use them all (RFC 4291, section 2.5.4); an IPv4 address
/// itself.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Room {
    /// Returns whether there is room for a new connection from `address` in addition to the
    /// `connections` that exist.
    pub fn look(&self, address: IpAddr, connections: usize, limits: &Limits) -> Vacancy {
        let address = network_of(address);
        let is_full = connections - self.evicted.len() >= limits.max_connections as usize;
        let (unknown, proven) = (self.unknown.of(address), self.proven.of(address));
        let max = limits.max_handshakes_per_address;
        if unknown.0 + proven.0 >= max as usize {
            return victim(unknown, proven, max).map_or(Vacancy::None, Vacancy::InsteadOf);
        }
        let max = limits.max_handshakes;
        if is_full || self.handshakes.len() >= max as usize {
            return victim(self.unknown.all(), self.proven.all(), max)
                .map_or(Vacancy::None, Vacancy::InsteadOf);
        }
        Vacancy::Free
    }

    /// Returns true if so many evicted connections are still to be closed that no further
    /// connection should be accepted.
    pub fn is_clearing(&self) -> bool {
        self.evicted.len() >= EVICTIONS_MAX
    }

    /// Returns the number of connections that may be evicted.
    pub fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Adds a connection that begins its handshake.
    pub fn enter(&mut self, id: u64, address: IpAddr) {
        let address = network_of(address);
        self.handshakes.insert(id, (address, false));
        self.unknown.insert(id, address);
    }

    /// Notes that a connection's client has proved a key. The proof may still be a repetition of
    /// one that was overheard.
    pub fn prove(&mut self, id: u64) {
        if let Some((address, is_proven @ false)) = self.handshakes.get_mut(&id) {
            *is_proven = true;
            self.unknown.remove(id, *address);
            self.proven.insert(id, *address);
        }
    }

    /// Notes that a connection is evicted.
    pub fn evict(&mut self, id: u64) {
        self.settle(id);
        self.evicted.insert(id);
        self.evictions += 1;
    }

    /// Notes that a connection is admitted or waits to be. From now on it cannot be evicted.
    pub fn settle(&mut self, id: u64) {
        let Some((address, is_proven)) = self.handshakes.remove(&id) else { return };
        let crowd = if is_proven { &mut self.proven } else { &mut self.unknown };
        crowd.remove(id, address);
    }

    /// Counts a connection among those of its client. Returns false if the client already has `max`
    /// connections. A connection that is counted already stays counted.
    pub fn count_in(&mut self, id: u64, client: &ClientId, max: usize) -> bool {
        if self.clients.contains_key(&id) {
            return true;
        }
        let count = self.of_clients.entry(client.clone()).or_default();
        let fits = *count < max;
        if fits {
            *count += 1;
            self.clients.insert(id, client.clone());
        }
        fits
    }

    /// Feeds the state that decisions depend on to a model checker's hash, without the counters.
    #[cfg(feature = "model")]
    pub fn canonical(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        // The crowds and the counts by client follow from the other fields.
        let Room {
            handshakes,
            unknown: _,
            proven: _,
            evicted,
            clients,
            of_clients: _,
            evictions: _,
            refused: _,
        } = self;
        (handshakes, evicted, clients).hash(hasher);
    }

    /// Forgets a connection that is gone.
    pub fn leave(&mut self, id: u64) {
        self.settle(id);
        self.evicted.remove(&id);
        let Some(client) = self.clients.remove(&id) else { return };
        if let Some(count) = self.of_clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.of_clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let place = |address: &str| network_of(address.parse().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:0:0:2"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_ne!(place("192.0.2.1"), place("192.0.2.2"));
        assert_eq!(place("::ffff:192.0.2.1"), place("192.0.2.1"));
    }

    const CONNECTIONS: usize = 10;

    fn limits() -> Limits {
        Limits {
            max_connections: CONNECTIONS as u32,
            max_handshakes: 4,
            max_handshakes_per_address: 2,
            ..crate::tests::LIMITS
        }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn look(room: &Room, last: u8, connections: usize) -> Vacancy {
        room.look(ip(last), connections, &limits())
    }

    fn client(host: &str) -> ClientId {
        ClientId { export: "disk".to_owned(), host: host.to_owned() }
    }

    #[test]
    fn the_oldest_of_the_address_that_has_most() {
        let mut room = Room::default();
        room.enter(1, ip(9));
        room.enter(2, ip(1));
        room.enter(3, ip(1));
        assert_eq!(look(&room, 1, 3), Vacancy::InsteadOf(2));
        assert_eq!(look(&room, 2, 3), Vacancy::Free);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(room.look(mapped, 3, &limits()), Vacancy::InsteadOf(2));
        room.enter(4, ip(2));
        assert_eq!(look(&room, 3, 4), Vacancy::InsteadOf(2), "not the oldest of all");
        room.evict(2);
        assert_eq!((look(&room, 3, 4), room.handshakes(), room.evictions), (Vacancy::Free, 3, 1));
        room.enter(5, ip(3));
        assert_eq!(look(&room, 4, 5), Vacancy::InsteadOf(1), "all have one");
        room.evict(1);
        room.enter(6, ip(3));
        assert_eq!(look(&room, 4, 6), Vacancy::InsteadOf(5));
    }

    #[test]
    fn who_has_shown_a_key_goes_last_unless_these_are_most() {
        let mut room = Room::default();
        (1..=4).for_each(|id| room.enter(id, ip(id as u8)));
        room.prove(1);
        assert_eq!(look(&room, 5, 4), Vacancy::InsteadOf(2));
        room.prove(2);
        assert_eq!((look(&room, 5, 4), room.handshakes()), (Vacancy::InsteadOf(3), 4));
        room.prove(3);
        assert_eq!(look(&room, 5, 4), Vacancy::InsteadOf(1), "more than half");
        room.evict(1);
        room.enter(5, ip(2));
        assert_eq!(look(&room, 2, 5), Vacancy::InsteadOf(5), "of one address, likewise");
        room.prove(5);
        assert_eq!(look(&room, 2, 5), Vacancy::InsteadOf(2));
        (2..=5).for_each(|id| room.leave(id));
        assert_eq!((room.unknown.len, room.proven.len, room.proven.by_count.len()), (0, 0, 0));
        // A connection that was admitted before its proof is noted has no place to lose.
        room.prove(3);
        assert_eq!(room.handshakes(), 0);
    }

    #[test]
    fn who_was_let_in_is_safe() {
        let mut room = Room::default();
        (1..=4).for_each(|id| room.enter(id, ip(id as u8)));
        (1..=3).for_each(|id| room.settle(id));
        assert_eq!(look(&room, 5, CONNECTIONS), Vacancy::InsteadOf(4), "the one that has not been");
        room.settle(4);
        assert_eq!(look(&room, 5, CONNECTIONS), Vacancy::None);
        room.leave(4);
        assert_eq!(look(&room, 5, CONNECTIONS - 1), Vacancy::Free);
        assert!(room.unknown.of_addresses.is_empty() && room.unknown.by_count.is_empty());
    }

    #[test]
    fn evicted_ones_take_no_room_but_there_are_few_of_them() {
        let mut room = Room::default();
        for id in 1..=EVICTIONS_MAX as u64 {
            assert!(!room.is_clearing());
            room.enter(id, ip(1));
            room.evict(id);
        }
        assert!(room.is_clearing());
        assert_eq!(look(&room, 1, CONNECTIONS - 1 + EVICTIONS_MAX), Vacancy::Free);
        assert_eq!(look(&room, 1, CONNECTIONS + EVICTIONS_MAX), Vacancy::None);
        room.leave(7);
        assert!(!room.is_clearing());
    }

    #[test]
    fn a_host_has_so_many_and_no_more() {
        let mut room = Room::default();
        assert!(room.count_in(1, &client("a"), 2) && room.count_in(2, &client("a"), 2));
        assert!(room.count_in(1, &client("a"), 2), "counted already");
        assert!(!room.count_in(3, &client("a"), 2));
        assert!(room.count_in(3, &client("b"), 2));
        room.leave(1);
        assert!(room.count_in(4, &client("a"), 2) && !room.count_in(5, &client("a"), 2));
        (2..=4).for_each(|id| room.leave(id));
        assert!(room.clients.is_empty() && room.of_clients.is_empty());
    }
}
