//! The state of a world.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::channel::Link;
use crate::client::Client;
use crate::kept::Kept;
use crate::ledger::Ledger;
use crate::target::Target;
use crate::wire::{End, Key, Wire};
use crate::world::{Faults, World};

/// Everything in a world at one moment. States that behave alike from here on have the same hash.
/// In it, a time counts by how long ago or how far ahead it is, and no longer than that matters.
#[derive(Debug, Clone)]
pub struct State {
    /// The time, which is the same for clients and targets.
    pub now_us: u64,
    /// The clients, by host.
    pub clients: Vec<Client>,
    /// The target processes, dead ones included.
    pub targets: Vec<Target>,
    /// The stored ownership, which does not depend on a target process.
    pub kept: Kept,
    /// The connections that at least one end still has.
    pub wires: BTreeMap<Key, Wire>,
    /// The users' I/O.
    pub ledger: Ledger,
    /// What may still happen.
    pub left: Faults,
    /// The id of the next session.
    pub next_session: u8,
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.digest() == other.digest()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let State { now_us, clients, targets, kept, wires, ledger, left, next_session } = self;
        (kept, ledger, left, next_session).hash(hasher);
        clients.iter().for_each(|client| client.canonical(*now_us, hasher));
        targets.iter().for_each(|target| target.canonical(*now_us, hasher));
        for (key, wire) in wires {
            key.hash(hasher);
            wire.canonical(*now_us, hasher);
        }
    }
}

impl State {
    /// Returns a world in which nothing has happened yet.
    pub fn new(world: &World) -> State {
        let (hosts, kept) = (0..world.hosts.len() as u8, Kept::default());
        State {
            now_us: 1_000_000,
            clients: hosts.map(|host| Client::new(world, world.tenure(host, true))).collect(),
            targets: (0..world.targets).map(|number| Target::new(number, world, &kept)).collect(),
            kept,
            wires: BTreeMap::new(),
            ledger: Ledger::new(&world.script),
            left: world.faults,
            next_session: 1,
        }
    }

    /// Returns the hash, which tells whether two states behave alike.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns a target process.
    pub fn target(&mut self, number: u8) -> &mut Target {
        &mut self.targets[usize::from(number)]
    }

    /// Drops a connection that neither end has any more.
    pub fn forget_if_gone(&mut self, key: Key) {
        if let Some(wire) = self.wires.get(&key)
            && matches!(wire.end, End::Gone)
            && !wire.is_held
        {
            self.wires.remove(&key);
        }
    }

    /// Closes the client's end of a connection.
    pub fn release(&mut self, key: Key) {
        if let Some(wire) = self.wires.get_mut(&key) {
            wire.is_held = false;
            wire.down.clear();
        }
        self.forget_if_gone(key);
    }

    /// Ends a queue's connection, or its attempt to connect, at the client.
    pub fn client_loses(&mut self, host: u8, queue: u16) {
        let now_us = self.now_us;
        let client = &mut self.clients[usize::from(host)];
        let Some(key) = client.link(queue).key() else { return };
        match (client.link(queue), queue) {
            (Link::Up { .. }, 0) => client.control_lost(now_us),
            (Link::Up { .. }, _) => client.channel_lost(queue, now_us, &mut self.ledger),
            _ => *client.link_mut(queue) = Link::Down,
        }
        self.release(key);
    }

    /// Closes the client's ends of those connections that its links have dropped.
    pub fn release_dropped(&mut self, host: u8) {
        let client = &self.clients[usize::from(host)];
        let is_dropped = |(key, wire): &(&Key, &Wire)| {
            wire.host == host && wire.is_held && client.queue_of(**key).is_none()
        };
        let dropped: Vec<Key> = self.wires.iter().filter(is_dropped).map(|(key, _)| *key).collect();
        dropped.into_iter().for_each(|key| self.release(key));
    }
}
