//! The sessions of all exports.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::refuse;
use dst_session::slots::Slots;
use dst_wire::{Hello, Refusal, RefusalReason};

use crate::stats::Stats;

/// A session's 16 random bytes.
pub type SessionId = [u8; 16];

/// One queue: a connection at a time, and the record that outlives it.
#[derive(Default)]
pub struct Queue {
    /// Counts its connections: of the newest one that it has seen.
    pub epoch: u32,
    /// The connection that it has.
    pub connection: Option<u64>,
    /// The record, while no connection has it.
    pub slots: Option<Slots>,
    /// Whether the connection was given the record.
    pub lent: bool,
    /// A connection that waits for the one before it to be gone.
    pub waiting: Option<(u64, Hello, SocketAddr)>,
}

impl Queue {
    /// The connection that it has, and the one that waits.
    pub fn connections(&self) -> impl Iterator<Item = u64> {
        self.connection.into_iter().chain(self.waiting.as_ref().map(|(id, ..)| *id))
    }
}

/// Whose something is: what one host has at one export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The export's name.
    pub export: String,
    /// The host's.
    pub host: String,
}

/// 16 random bytes.
pub fn random_id() -> SessionId {
    let mut id = [0; 16];
    spdk::random::fill(&mut id);
    id
}

/// A session's name in the log: the beginning of its id.
pub fn short(id: &SessionId) -> String {
    id[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client's session.
pub struct Session {
    /// Whose it is.
    pub owner: Owner,
    /// When it was opened.
    pub since_us: u64,
    /// From where its first connection came.
    pub peer: SocketAddr,
    /// Its queues; queue 0 carries no requests.
    pub queues: BTreeMap<u16, Queue>,
    /// What its ended connections did.
    pub stats: Stats,
    /// Since when it has no connection.
    pub idle_since_us: Option<u64>,
}

impl Session {
    /// Its live connections, those that wait included.
    pub fn connections(&self) -> impl Iterator<Item = u64> {
        self.queues.values().flat_map(Queue::connections)
    }
}

/// All sessions.
#[derive(Default)]
pub struct Sessions {
    map: BTreeMap<SessionId, Session>,
    queues: usize,
}

/// What joining a queue came to.
pub struct Joined {
    /// The queue had a connection before.
    pub is_again: bool,
    /// Where the connection stands.
    pub standing: Standing,
}

/// Where a joining connection stands.
pub enum Standing {
    /// It has the queue now, with the record of the one before it, if there was one.
    Now(Option<Slots>),
    /// It has to wait until this connection is gone, and then this one that waited before it is too late.
    After { predecessor: u64, superseded: Option<u64> },
}

impl Sessions {
    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn get(&self, id: &SessionId) -> Option<&Session> {
        self.map.get(id)
    }

    pub fn get_mut(&mut self, id: &SessionId) -> Option<&mut Session> {
        self.map.get_mut(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&SessionId, &Session)> {
        self.map.iter()
    }

    /// Opens a session for a connection, which becomes its queue 0. `waited`: it had to wait for that.
    pub fn open(
        &mut self,
        id: SessionId,
        connection: u64,
        owner: Owner,
        peer: SocketAddr,
        now_us: u64,
        waited: bool,
    ) {
        let first = Queue { connection: Some(connection), ..Queue::default() };
        let session = Session {
            owner,
            since_us: now_us,
            peer,
            queues: BTreeMap::from([(0, first)]),
            stats: Stats { fences: waited.into(), ..Stats::default() },
            idle_since_us: None,
        };
        self.map.insert(id, session);
        self.queues += 1;
    }

    /// A connection joins a queue of a session, as its only connection.
    ///
    /// # Errors
    /// The refusal to send: no such session of this host and export, a connection that is late, or more
    /// queues than `queues_max` in all.
    pub fn join(
        &mut self,
        connection: u64,
        hello: &Hello,
        peer: SocketAddr,
        queues_max: usize,
    ) -> Result<Joined, Refusal> {
        let reference = hello.session.as_ref().expect("a connection that joins names its session");
        let no_session = || refuse(RefusalReason::NoSession, "there is no such session");
        let session = self
            .map
            .get_mut(&reference.id)
            .filter(|session| session.owner.export == hello.export && session.owner.host == hello.host)
            .ok_or_else(no_session)?;
        let is_known = session.queues.contains_key(&reference.queue);
        if !is_known {
            if self.queues >= queues_max {
                return Err(refuse(RefusalReason::Busy, "the target has too many queues"));
            }
            self.queues += 1;
        }
        let queue = session.queues.entry(reference.queue).or_default();
        if reference.epoch < queue.epoch || queue.connection.is_some() && reference.epoch == queue.epoch {
            return Err(refuse(RefusalReason::NoSession, "a newer connection has this queue"));
        }
        // One that has waited comes here twice.
        let is_again = is_known && reference.epoch > queue.epoch;
        queue.epoch = reference.epoch;
        session.stats.reconnects += u64::from(is_again);
        session.idle_since_us = None;
        if let Some(predecessor) = queue.connection.filter(|_| !is_on(Mutation::NoFence)) {
            session.stats.fences += 1;
            let superseded = queue.waiting.replace((connection, hello.clone(), peer)).map(|(id, ..)| id);
            return Ok(Joined { is_again, standing: Standing::After { predecessor, superseded } });
        }
        queue.connection = Some(connection);
        Ok(Joined { is_again, standing: Standing::Now(queue.slots.take()) })
    }

    /// A connection of a queue is gone. Gives the one that waited for that.
    pub fn left(
        &mut self,
        id: &SessionId,
        queue_number: u16,
        connection: u64,
        now_us: u64,
    ) -> Option<(u64, Hello, SocketAddr)> {
        let session = self.map.get_mut(id)?;
        let queue = session.queues.get_mut(&queue_number)?;
        let next = if queue.connection == Some(connection) {
            queue.connection = None;
            queue.lent = false;
            queue.waiting.take()
        } else {
            if queue.waiting.as_ref().is_some_and(|(id, ..)| *id == connection) {
                queue.waiting = None;
            }
            None
        };
        if session.connections().next().is_none() {
            session.idle_since_us = Some(now_us);
        }
        next
    }

    /// Forgets a queue that its client has ended, unless it has another connection already.
    pub fn forget_queue(&mut self, id: &SessionId, queue_number: u16) {
        if let Some(session) = self.map.get_mut(id)
            && session.queues.get(&queue_number).is_some_and(|queue| queue.connection.is_none())
        {
            session.queues.remove(&queue_number);
            self.queues -= 1;
        }
    }

    /// Ends a session and gives it. Its connections are the caller's to close.
    pub fn close(&mut self, id: &SessionId) -> Option<Session> {
        let session = self.map.remove(id)?;
        self.queues -= session.queues.len();
        Some(session)
    }

    /// Sessions that have had no connection since before `before_us`.
    pub fn abandoned(&self, before_us: u64) -> Vec<SessionId> {
        let is_old = |session: &Session| session.idle_since_us.is_some_and(|since| since <= before_us);
        self.map.iter().filter(|(_, session)| is_old(session)).map(|(id, _)| *id).collect()
    }
}
