//! The sessions of all exports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::refuse;
use dst_session::slots::Slots;
use dst_wire::{Cipher, Digest, Refusal, RefusalReason, SessionRef};

use crate::ids::{ClientId, ConnectionId, SessionId};
use crate::stats::Stats;

/// The most queues of one session that are remembered as given up. Once a session has so many, it
/// gives up no further queue; the limit on the number of all queues still holds.
const LOST_MAX: usize = 1024;

/// A queue: one connection at a time, and the record of answers that outlives the connection.
#[derive(Debug, Clone)]
pub struct SessionQueue {
    /// The epoch of the newest connection that has joined the queue.
    pub epoch: u32,
    holder: Holder,
}

/// The holder of a queue's record. The record has one holder at a time.
#[derive(Debug, Clone)]
enum Holder {
    /// The record is with connection `id`, or on its way to or from that connection. Connection
    /// `next`, if any, waits until connection `id` is gone.
    Connection { id: ConnectionId, next: Option<ConnectionId> },
    /// No connection has the queue, since this time. `record` is the queue's record, which queue 0
    /// does not have.
    Nobody { record: Option<Slots>, since_us: u64 },
}

impl SessionQueue {
    fn held_by(id: ConnectionId, epoch: u32) -> SessionQueue {
        SessionQueue { epoch, holder: Holder::Connection { id, next: None } }
    }

    /// Returns the connection that has the queue.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connections().next()
    }

    /// Returns the connection that has the queue, followed by the one that waits for the queue.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        let (id, next) = match self.holder {
            Holder::Connection { id, next } => (Some(id), next),
            Holder::Nobody { .. } => (None, None),
        };
        id.into_iter().chain(next)
    }
}

/// A client's session.
#[derive(Debug, Clone)]
pub struct Session {
    /// The client that has the session.
    pub client: ClientId,
    /// When the session was opened.
    pub since_us: u64,
    /// The address of the session's first connection.
    pub peer: SocketAddr,
    /// The session's queues. Queue 0 carries no requests.
    queues: BTreeMap<u16, SessionQueue>,
    /// The queues whose records were given up because they had no connection for too long.
    lost: BTreeSet<u16>,
    /// The number of the session's ownership of the export, or `None` if the session shares the
    /// export.
    pub ownership: Option<u64>,
    /// The data digest of the session's newest connection.
    pub digest: Digest,
    /// The cipher of the session's newest connection.
    pub cipher: Cipher,
    /// The counts of the session's ended connections, once there are any: most sessions keep theirs, and
    /// a sum of all sessions is cheaper without.
    past: Option<Box<Stats>>,
    /// The time since which the session has had no connection, or `None` if it has one.
    pub idle_since_us: Option<u64>,
}

impl Session {
    /// Returns a queue.
    pub fn queue(&self, number: u16) -> Option<&SessionQueue> {
        self.queues.get(&number)
    }

    /// Returns the queues by their numbers.
    pub fn queues(&self) -> impl Iterator<Item = (u16, &SessionQueue)> {
        self.queues.iter().map(|(&number, queue)| (number, queue))
    }

    /// Returns the counts of the session's ended connections, or `None` if nothing was counted.
    pub fn past(&self) -> Option<&Stats> {
        self.past.as_deref()
    }

    /// Returns the counts of the session's ended connections, to be added to.
    pub fn past_mut(&mut self) -> &mut Stats {
        self.past.get_or_insert_default()
    }

    /// Returns true if the queue's record was given up: no connection may join the queue any more.
    pub fn has_given_up(&self, queue: u16) -> bool {
        self.lost.contains(&queue)
    }

    /// Returns the number of queues that have no connection.
    fn idle_queues(&self) -> usize {
        self.queues.values().filter(|queue| queue.connections().next().is_none()).count()
    }

    /// Returns the session's connections, including those that wait for a queue.
    pub fn connections(&self) -> impl Iterator<Item = u64> {
        self.queues.values().flat_map(SessionQueue::connections)
    }
}

/// The sessions of all exports.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    map: BTreeMap<SessionId, Session>,
    queues: usize,
}

/// The outcome of joining a queue.
pub struct Joined {
    /// Whether the queue had an earlier connection. False for a connection that has waited for the
    /// queue: it was counted when it came.
    pub is_again: bool,
    /// How the connection gets the queue.
    pub grant: QueueGrant,
}

/// How a joining connection gets its queue: at once, or when its predecessor is gone.
pub enum QueueGrant {
    /// The connection has the queue, with the record that its predecessor left, if there is one.
    Now(Option<Slots>),
    /// The connection must wait until `predecessor` is gone. It takes the place of `superseded`,
    /// which waited for the queue until now.
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

    /// Opens a session for a connection, which becomes the session's queue 0. `waited` is true if
    /// the connection had to wait before the session could be opened.
    pub fn open(
        &mut self,
        id: SessionId,
        connection: u64,
        client: ClientId,
        peer: SocketAddr,
        now_us: u64,
        waited: bool,
    ) {
        let session = Session {
            client,
            since_us: now_us,
            peer,
            queues: BTreeMap::from([(0, SessionQueue::held_by(connection, 0))]),
            lost: BTreeSet::new(),
            ownership: None,
            digest: Digest::None,
            cipher: Cipher::None,
            past: waited.then(|| Box::new(Stats { fences: 1, ..Stats::default() })),
            idle_since_us: None,
        };
        self.map.insert(id, session);
        self.queues += 1;
    }

    /// Joins a connection to a queue of a session. A queue has one connection at a time.
    ///
    /// # Errors
    /// Returns the refusal to send if this host and export have no such session, if the queue
    /// already has a connection of the same epoch or has seen a later epoch, or if the target
    /// already has `queues_max` queues.
    pub fn join(
        &mut self,
        connection: ConnectionId,
        client: &ClientId,
        reference: &SessionRef,
        queues_max: usize,
    ) -> Result<Joined, Refusal> {
        let no_session = || refuse(RefusalReason::NoSession, "there is no such session");
        let session = self.map.get_mut(&reference.id).filter(|session| session.client == *client);
        let session = session.ok_or_else(no_session)?;
        let Some(queue) = session.queues.get_mut(&reference.queue) else {
            if self.queues >= queues_max {
                let text = format!("the target already has {queues_max} queues, the most allowed");
                return Err(refuse(RefusalReason::Busy, text));
            }
            self.queues += 1;
            session.queues.insert(reference.queue, SessionQueue::held_by(connection, reference.epoch));
            session.idle_since_us = None;
            return Ok(Joined { is_again: false, grant: QueueGrant::Now(None) });
        };
        let is_again = reference.epoch > queue.epoch;
        let is_held = matches!(queue.holder, Holder::Connection { .. });
        if reference.epoch < queue.epoch || is_held && !is_again {
            return Err(refuse(RefusalReason::Busy, "a newer connection has this queue"));
        }
        queue.epoch = reference.epoch;
        if is_again {
            session.past.get_or_insert_default().reconnects += 1;
        }
        session.idle_since_us = None;
        if !is_on(Mutation::NoFence)
            && let Holder::Connection { id: predecessor, next } = &mut queue.holder
        {
            session.past.get_or_insert_default().fences += 1;
            let (predecessor, superseded) = (*predecessor, next.replace(connection));
            return Ok(Joined { is_again, grant: QueueGrant::After { predecessor, superseded } });
        }
        let now = Holder::Connection { id: connection, next: None };
        let record = match std::mem::replace(&mut queue.holder, now) {
            Holder::Nobody { record, .. } => record,
            Holder::Connection { .. } => None,
        };
        Ok(Joined { is_again, grant: QueueGrant::Now(record) })
    }

    /// Notes that a connection of a queue is gone and that the queue's record has come back.
    /// Returns the connection that waited for this.
    pub fn left(
        &mut self,
        id: &SessionId,
        queue_number: u16,
        connection: ConnectionId,
        record: Option<Slots>,
        now_us: u64,
    ) -> Option<ConnectionId> {
        let session = self.map.get_mut(id)?;
        let queue = session.queues.get_mut(&queue_number)?;
        let mut waited = None;
        if let Holder::Connection { id, next } = &mut queue.holder {
            if *id == connection {
                waited = *next;
                queue.holder = Holder::Nobody { record, since_us: now_us };
            } else if *next == Some(connection) {
                *next = None;
            }
        }
        if session.connections().next().is_none() {
            session.idle_since_us = Some(now_us);
        }
        waited
    }

    /// Forgets a queue that its client has ended, unless the queue already has another connection.
    pub fn forget_queue(&mut self, id: &SessionId, queue_number: u16) {
        if let Some(session) = self.map.get_mut(id)
            && session.queues.get(&queue_number).is_some_and(|queue| queue.connection().is_none())
        {
            session.queues.remove(&queue_number);
            self.queues -= 1;
        }
    }

    /// Gives up the records of queues that have had no connection since `before_us` or earlier: the
    /// client has ended the queue, and its Goodbye was lost. Queue 0 has no record and is kept.
    pub fn give_up_queues(&mut self, before_us: u64) {
        for session in self.map.values_mut() {
            let Session { queues, lost, .. } = session;
            queues.retain(|&number, queue| {
                let is_idle =
                    matches!(queue.holder, Holder::Nobody { since_us, .. } if since_us <= before_us);
                let keeps = number == 0 || !is_idle || lost.len() >= LOST_MAX;
                if !keeps {
                    lost.insert(number);
                    self.queues -= 1;
                }
                keeps
            });
        }
    }

    /// Removes a session and returns it. The caller closes the session's connections.
    pub fn close(&mut self, id: &SessionId) -> Option<Session> {
        let session = self.map.remove(id)?;
        self.queues -= session.queues.len();
        Some(session)
    }

    /// Returns the session to be ended to make room for a new session of `client`: the oldest
    /// session without a connection, of the client that has the most such sessions. The backend
    /// holds nothing of that session.
    ///
    /// A client never loses a session to a client that holds more sessions; that client has to end
    /// one of its own.
    pub fn least_needed(&self, client: &ClientId) -> Option<SessionId> {
        let mut counts: BTreeMap<&ClientId, (usize, usize)> = BTreeMap::new();
        for session in self.map.values() {
            let (idle, all) = counts.entry(&session.client).or_default();
            *idle += usize::from(session.idle_since_us.is_some());
            *all += 1;
        }
        let own = counts.get(client).map_or(0, |&(_, all)| all);
        counts.retain(|_, &mut (idle, all)| idle > 0 && all >= own);
        let (&whose, _) = counts.iter().max_by_key(|(_, (idle, _))| *idle)?;
        let its = self.map.iter().filter(|(_, s)| s.idle_since_us.is_some() && s.client == *whose);
        its.min_by_key(|(_, session)| session.since_us).map(|(id, _)| *id)
    }

    /// Returns true if this hello cannot join its queue only because there are already `queues_max`
    /// queues.
    pub fn lacks_room(&self, client: &ClientId, reference: &SessionRef, queues_max: usize) -> bool {
        self.queues >= queues_max
            && self.map.get(&reference.id).is_some_and(|session| {
                session.client == *client && !session.queues.contains_key(&reference.queue)
            })
    }

    /// Returns the session to be ended to make room for queues: the one with the most queues
    /// without a connection, of the client that has the most such queues. Requests that the
    /// session's other queues have in the backend must be waited for, as whenever a session ends.
    pub fn least_used(&self) -> Option<SessionId> {
        let mut counts: BTreeMap<&ClientId, usize> = BTreeMap::new();
        for session in self.map.values() {
            *counts.entry(&session.client).or_default() += session.idle_queues();
        }
        let (&whose, _) = counts.iter().filter(|(_, idle)| **idle > 0).max_by_key(|(_, idle)| **idle)?;
        let its = self.map.iter().filter(|(_, session)| session.client == *whose);
        its.max_by_key(|(_, session)| session.idle_queues()).map(|(id, _)| *id)
    }

    /// Feeds the sessions' state to a model checker's hash. Ages of more than `timeout_us` count as
    /// equal, times of opening count only by their order, and statistics are left out.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64, timeout_us: u64, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let age = |since_us: u64| (now_us - since_us).min(timeout_us);
        // The number of queues follows from the map.
        let Sessions { map, queues: _ } = self;
        for (id, session) in map {
            let Session {
                client,
                since_us,
                peer,
                queues,
                lost,
                ownership,
                digest,
                cipher,
                past: _,
                idle_since_us,
            } = session;
            let older = map.values().filter(|other| other.since_us < *since_us).count();
            (id, client, older, peer, lost, ownership, digest, cipher, idle_since_us.map(age)).hash(hasher);
            for (number, SessionQueue { epoch, holder }) in queues {
                (number, epoch).hash(hasher);
                match holder {
                    Holder::Connection { id, next } => (0, id, next).hash(hasher),
                    Holder::Nobody { record, since_us } => (1, record, age(*since_us)).hash(hasher),
                }
            }
        }
    }

    /// Returns the sessions that have had no connection since `before_us` or earlier.
    pub fn abandoned(&self, before_us: u64) -> Vec<SessionId> {
        let is_old = |session: &Session| session.idle_since_us.is_some_and(|since| since <= before_us);
        self.map.iter().filter(|(_, session)| is_old(session)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = [7; 16];

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn place(queue: u16, epoch: u32) -> SessionRef {
        SessionRef { id: ID, queue, epoch }
    }

    /// Returns a table of one session, whose queue 0 has connection 1.
    fn sessions() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.open(ID, 1, client("client"), peer(), 0, false);
        sessions
    }

    fn client(host: &str) -> ClientId {
        ClientId { export: "disk".to_owned(), host: host.to_owned() }
    }

    /// Opens session `id` of a host, at time `id`. Its queue 0 has connection `id`.
    fn open(sessions: &mut Sessions, id: u8, host: &str) {
        sessions.open([id; 16], id.into(), client(host), peer(), id.into(), false);
    }

    /// Notes that connection `id` of session `id` is gone.
    fn leave(sessions: &mut Sessions, id: u8) {
        assert!(sessions.left(&[id; 16], 0, id.into(), None, 100).is_none());
    }

    #[test]
    fn who_left_most_sessions_behind_makes_room() {
        let mut sessions = Sessions::default();
        for (id, host) in [(1, "a"), (2, "b"), (3, "b"), (4, "b"), (5, "c")] {
            open(&mut sessions, id, host);
        }
        assert_eq!(sessions.least_needed(&client("d")), None, "all are in use");
        leave(&mut sessions, 1);
        assert_eq!(sessions.least_needed(&client("d")), Some([1; 16]));
        leave(&mut sessions, 4);
        leave(&mut sessions, 3);
        assert_eq!(
            sessions.least_needed(&client("d")),
            Some([3; 16]),
            "the oldest idle session, of the client that has most of them"
        );
        assert_eq!(sessions.least_needed(&client("b")), Some([3; 16]), "the client's own");
        sessions.close(&[3; 16]);
        sessions.close(&[4; 16]);
        open(&mut sessions, 6, "b");
        assert_eq!(sessions.least_needed(&client("b")), None, "b has two, a has one");
        assert_eq!(sessions.least_needed(&client("c")), Some([1; 16]));
    }

    #[test]
    fn who_left_most_queues_behind_makes_room() {
        let mut sessions = Sessions::default();
        for (id, host) in [(1, "other"), (7, "client"), (8, "client"), (9, "other")] {
            open(&mut sessions, id, host);
        }
        let mut queue = |session: u8, number: u16, connection: Option<u64>| {
            let session = sessions.get_mut(&[session; 16]).unwrap();
            let holder = match connection {
                Some(id) => Holder::Connection { id, next: None },
                None => Holder::Nobody { record: None, since_us: 0 },
            };
            session.queues.insert(number, SessionQueue { epoch: 0, holder });
            sessions.queues += 1;
            sessions.least_used()
        };
        assert_eq!(queue(7, 1, Some(20)), None, "all have connections");
        assert_eq!(queue(9, 1, None), Some([9; 16]));
        assert_eq!(queue(9, 2, None), Some([9; 16]));
        // Spreading queues over several sessions does not help their client.
        assert_eq!(queue(7, 2, None), Some([9; 16]));
        assert!(queue(8, 2, None).is_some());
        assert_eq!(queue(8, 3, None), Some([8; 16]));
        let lacks = |session, max| sessions.lacks_room(&client("client"), &place(session, 1), max);
        assert_eq!(sessions.queues, 10);
        assert!(lacks(3, 10) && !lacks(3, 11) && !lacks(2, 10), "a queue that is there already");
        assert!(!sessions.lacks_room(&client("other"), &place(3, 1), 10), "another's session");
    }

    fn join(
        sessions: &mut Sessions,
        connection: u64,
        queue: u16,
        epoch: u32,
    ) -> Result<Joined, RefusalReason> {
        sessions
            .join(connection, &client("client"), &place(queue, epoch), 4)
            .map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_queue_has_one_connection_and_the_newest_gets_it_next() {
        let mut sessions = sessions();
        assert!(matches!(join(&mut sessions, 2, 1, 5).unwrap().grant, QueueGrant::Now(None)));
        assert_eq!(join(&mut sessions, 3, 1, 5).err(), Some(RefusalReason::Busy));
        assert_eq!(join(&mut sessions, 3, 1, 4).err(), Some(RefusalReason::Busy));
        let second = join(&mut sessions, 4, 1, 6).unwrap();
        assert!(second.is_again);
        assert!(matches!(second.grant, QueueGrant::After { predecessor: 2, superseded: None }));
        let third = join(&mut sessions, 5, 1, 7).unwrap().grant;
        assert!(matches!(third, QueueGrant::After { predecessor: 2, superseded: Some(4) }));
        assert!(sessions.left(&ID, 1, 4, None, 0).is_none());
        assert_eq!(sessions.left(&ID, 1, 2, Some(Slots::new(3)), 0), Some(5));
        let joined = join(&mut sessions, 5, 1, 7).unwrap();
        assert!(!joined.is_again, "it was counted when it came");
        assert!(matches!(joined.grant, QueueGrant::Now(Some(slots)) if slots.credits() == 3));
        let stats = sessions.get(&ID).unwrap().past().unwrap();
        assert_eq!((stats.reconnects, stats.fences), (2, 2));
    }

    #[test]
    fn records_that_nobody_comes_back_for_are_given_up_and_never_begun_anew() {
        let mut sessions = sessions();
        for queue in 1..4 {
            join(&mut sessions, 10 + u64::from(queue), queue, 1).unwrap();
        }
        assert_eq!(join(&mut sessions, 20, 4, 1).err(), Some(RefusalReason::Busy), "four queues at most");
        assert!(sessions.left(&ID, 1, 11, None, 1000).is_none());
        assert!(sessions.left(&ID, 2, 12, None, 2000).is_none());
        assert!(sessions.left(&ID, 3, 13, None, 1000).is_none());
        join(&mut sessions, 23, 3, 2).unwrap();
        sessions.give_up_queues(999);
        assert_eq!(sessions.queues, 4);
        sessions.give_up_queues(1000);
        assert_eq!(sessions.queues, 3);
        let session = sessions.get(&ID).unwrap();
        assert!(session.has_given_up(1) && !session.has_given_up(2));
        assert!(join(&mut sessions, 22, 2, 2).is_ok());
        assert!(join(&mut sessions, 24, 4, 1).is_ok(), "there is room for another one");
        sessions.give_up_queues(u64::MAX);
        assert_eq!(sessions.queues, 4, "all have connections");
    }
}
