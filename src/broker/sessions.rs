//! The sessions of all exports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dst_session::mutation::{Mutation, is_on};
use dst_session::negotiate::refuse;
use dst_session::slots::Slots;
use dst_wire::{Cipher, Digest, Refusal, RefusalReason, SessionRef};

use crate::ids::{ConnectionId, Owner, SessionId};
use crate::stats::Stats;

/// Queues of one session of which it is remembered that their record was given up. With so many no further
/// one is given up; the limit of queues in all holds all the same.
const LOST_MAX: usize = 1024;

/// One queue: a connection at a time, and the record that outlives it.
#[derive(Debug, Clone)]
pub struct SessionQueue {
    /// Counts its connections: of the newest one that it has seen.
    pub epoch: u32,
    holder: Holder,
}

/// Where a queue's record is: in one place at a time.
#[derive(Debug, Clone)]
enum Holder {
    /// With a connection, or on the way to it or back. Another one may wait for its end.
    Connection { id: ConnectionId, next: Option<ConnectionId> },
    /// Here, since this time. (SessionQueue 0 has none.)
    Nobody { record: Option<Slots>, since_us: u64 },
}

impl SessionQueue {
    fn held_by(id: ConnectionId, epoch: u32) -> SessionQueue {
        SessionQueue { epoch, holder: Holder::Connection { id, next: None } }
    }

    /// Returns the connection that the queue has.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connections().next()
    }

    /// Returns the connection that the queue has, and then the one that waits.
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
    /// Whose it is.
    pub owner: Owner,
    /// When it was opened.
    pub since_us: u64,
    /// From where its first connection came.
    pub peer: SocketAddr,
    /// Its queues; queue 0 carries no requests.
    queues: BTreeMap<u16, SessionQueue>,
    /// Queues whose record was given up, because nobody came back to them for so long.
    lost: BTreeSet<u16>,
    /// The number of its ownership of the export; `None`: it shares the export.
    pub ownership: Option<u64>,
    /// The digest of data that its newest connection has.
    pub digest: Digest,
    /// The cipher that it has.
    pub cipher: Cipher,
    /// What its ended connections did.
    pub stats: Stats,
    /// Since when it has no connection.
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

    /// Whether a queue's record was given up: it must not be joined any more.
    pub fn has_given_up(&self, queue: u16) -> bool {
        self.lost.contains(&queue)
    }

    /// Queues of which there is only the record.
    fn idle_queues(&self) -> usize {
        self.queues.values().filter(|queue| queue.connections().next().is_none()).count()
    }

    /// Its live connections, those that wait included.
    pub fn connections(&self) -> impl Iterator<Item = u64> {
        self.queues.values().flat_map(SessionQueue::connections)
    }
}

/// All sessions.
#[derive(Debug, Clone, Default)]
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
        let session = Session {
            owner,
            since_us: now_us,
            peer,
            queues: BTreeMap::from([(0, SessionQueue::held_by(connection, 0))]),
            lost: BTreeSet::new(),
            ownership: None,
            digest: Digest::None,
            cipher: Cipher::None,
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
        connection: ConnectionId,
        owner: &Owner,
        reference: &SessionRef,
        queues_max: usize,
    ) -> Result<Joined, Refusal> {
        let no_session = || refuse(RefusalReason::NoSession, "there is no such session");
        let session = self.map.get_mut(&reference.id).filter(|session| session.owner == *owner);
        let session = session.ok_or_else(no_session)?;
        let Some(queue) = session.queues.get_mut(&reference.queue) else {
            if self.queues >= queues_max {
                return Err(refuse(RefusalReason::Busy, "the target has too many queues"));
            }
            self.queues += 1;
            session.queues.insert(reference.queue, SessionQueue::held_by(connection, reference.epoch));
            session.idle_since_us = None;
            return Ok(Joined { is_again: false, standing: Standing::Now(None) });
        };
        let is_again = reference.epoch > queue.epoch;
        let is_held = matches!(queue.holder, Holder::Connection { .. });
        if reference.epoch < queue.epoch || is_held && !is_again {
            return Err(refuse(RefusalReason::Busy, "a newer connection has this queue"));
        }
        queue.epoch = reference.epoch;
        session.stats.reconnects += u64::from(is_again);
        session.idle_since_us = None;
        if !is_on(Mutation::NoFence)
            && let Holder::Connection { id: predecessor, next } = &mut queue.holder
        {
            session.stats.fences += 1;
            let (predecessor, superseded) = (*predecessor, next.replace(connection));
            return Ok(Joined { is_again, standing: Standing::After { predecessor, superseded } });
        }
        let now = Holder::Connection { id: connection, next: None };
        let record = match std::mem::replace(&mut queue.holder, now) {
            Holder::Nobody { record, .. } => record,
            Holder::Connection { .. } => None,
        };
        Ok(Joined { is_again, standing: Standing::Now(record) })
    }

    /// A connection of a queue is gone, and leaves the queue's record. Returns the connection that waited
    /// for that.
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

    /// Forgets a queue that its client has ended, unless it has another connection already.
    pub fn forget_queue(&mut self, id: &SessionId, queue_number: u16) {
        if let Some(session) = self.map.get_mut(id)
            && session.queues.get(&queue_number).is_some_and(|queue| queue.connection().is_none())
        {
            session.queues.remove(&queue_number);
            self.queues -= 1;
        }
    }

    /// Gives up the records of queues that have had no connection since before `before_us`: their client
    /// has ended them, and its goodbye was lost. SessionQueue 0 has none.
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

    /// Ends a session and gives it. Its connections are the caller's to close.
    pub fn close(&mut self, id: &SessionId) -> Option<Session> {
        let session = self.map.remove(id)?;
        self.queues -= session.queues.len();
        Some(session)
    }

    /// The session to be ended for another one of `owner`: of those who have most sessions without a connection, the oldest
    /// such. Nothing of it is in the backend.
    ///
    /// Nobody loses one to somebody who has more of them himself: for him it is time to end his own.
    pub fn least_needed(&self, owner: &Owner) -> Option<SessionId> {
        let mut counts: BTreeMap<&Owner, (usize, usize)> = BTreeMap::new();
        for session in self.map.values() {
            let (idle, all) = counts.entry(&session.owner).or_default();
            *idle += usize::from(session.idle_since_us.is_some());
            *all += 1;
        }
        let own = counts.get(owner).map_or(0, |&(_, all)| all);
        counts.retain(|_, &mut (idle, all)| idle > 0 && all >= own);
        let (&whose, _) = counts.iter().max_by_key(|(_, (idle, _))| *idle)?;
        let its = self.map.iter().filter(|(_, s)| s.idle_since_us.is_some() && s.owner == *whose);
        its.min_by_key(|(_, session)| session.since_us).map(|(id, _)| *id)
    }

    /// Whether the only thing that keeps a connection with this hello from joining its queue is that there are
    /// `queues_max` already.
    pub fn lacks_room(&self, owner: &Owner, reference: &SessionRef, queues_max: usize) -> bool {
        self.queues >= queues_max
            && self.map.get(&reference.id).is_some_and(|session| {
                session.owner == *owner && !session.queues.contains_key(&reference.queue)
            })
    }

    /// The session to be ended for more queues: of those who have most queues without a connection, the one that
    /// has most of them. What its other queues have in the backend has to be waited for, as whenever a session ends.
    pub fn least_used(&self) -> Option<SessionId> {
        let mut counts: BTreeMap<&Owner, usize> = BTreeMap::new();
        for session in self.map.values() {
            *counts.entry(&session.owner).or_default() += session.idle_queues();
        }
        let (&whose, _) = counts.iter().filter(|(_, idle)| **idle > 0).max_by_key(|(_, idle)| **idle)?;
        let its = self.map.iter().filter(|(_, session)| session.owner == *whose);
        its.max_by_key(|(_, session)| session.idle_queues()).map(|(id, _)| *id)
    }

    /// Feeds what sessions decide to a model checker's hash: ages of more than `timeout_us` are alike, of the
    /// times of opening the order counts, and statistics do not.
    #[cfg(feature = "model")]
    pub fn canonical(&self, now_us: u64, timeout_us: u64, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let age = |since_us: u64| (now_us - since_us).min(timeout_us);
        // The number of queues follows.
        let Sessions { map, queues: _ } = self;
        for (id, session) in map {
            let Session {
                owner,
                since_us,
                peer,
                queues,
                lost,
                ownership,
                digest,
                cipher,
                stats: _,
                idle_since_us,
            } = session;
            let older = map.values().filter(|other| other.since_us < *since_us).count();
            (id, owner, older, peer, lost, ownership, digest, cipher, idle_since_us.map(age)).hash(hasher);
            for (number, SessionQueue { epoch, holder }) in queues {
                (number, epoch).hash(hasher);
                match holder {
                    Holder::Connection { id, next } => (0, id, next).hash(hasher),
                    Holder::Nobody { record, since_us } => (1, record, age(*since_us)).hash(hasher),
                }
            }
        }
    }

    /// Sessions that have had no connection since before `before_us`.
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

    /// A session whose queue 0 has connection 1.
    fn sessions() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.open(ID, 1, owner("client"), peer(), 0, false);
        sessions
    }

    fn owner(host: &str) -> Owner {
        Owner { export: "disk".to_owned(), host: host.to_owned() }
    }

    /// Opens the session `id` of a host, whose queue 0 has the connection of the same number. Its time is its id.
    fn open(sessions: &mut Sessions, id: u8, host: &str) {
        sessions.open([id; 16], id.into(), owner(host), peer(), id.into(), false);
    }

    /// That connection is gone.
    fn leave(sessions: &mut Sessions, id: u8) {
        assert!(sessions.left(&[id; 16], 0, id.into(), None, 100).is_none());
    }

    #[test]
    fn who_left_most_sessions_behind_makes_room() {
        let mut sessions = Sessions::default();
        for (id, host) in [(1, "a"), (2, "b"), (3, "b"), (4, "b"), (5, "c")] {
            open(&mut sessions, id, host);
        }
        assert_eq!(sessions.least_needed(&owner("d")), None, "all are in use");
        leave(&mut sessions, 1);
        assert_eq!(sessions.least_needed(&owner("d")), Some([1; 16]));
        leave(&mut sessions, 4);
        leave(&mut sessions, 3);
        assert_eq!(
            sessions.least_needed(&owner("d")),
            Some([3; 16]),
            "of whom has most, the oldest, not in use"
        );
        assert_eq!(sessions.least_needed(&owner("b")), Some([3; 16]), "his own");
        sessions.close(&[3; 16]);
        sessions.close(&[4; 16]);
        open(&mut sessions, 6, "b");
        assert_eq!(sessions.least_needed(&owner("b")), None, "he has two, a has one");
        assert_eq!(sessions.least_needed(&owner("c")), Some([1; 16]));
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
        // Spreading them over sessions does not help.
        assert_eq!(queue(7, 2, None), Some([9; 16]));
        assert!(queue(8, 2, None).is_some());
        assert_eq!(queue(8, 3, None), Some([8; 16]));
        let lacks = |session, max| sessions.lacks_room(&owner("client"), &place(session, 1), max);
        assert_eq!(sessions.queues, 10);
        assert!(lacks(3, 10) && !lacks(3, 11) && !lacks(2, 10), "a queue that is there already");
        assert!(!sessions.lacks_room(&owner("other"), &place(3, 1), 10), "another's session");
    }

    fn join(
        sessions: &mut Sessions,
        connection: u64,
        queue: u16,
        epoch: u32,
    ) -> Result<Joined, RefusalReason> {
        sessions.join(connection, &owner("client"), &place(queue, epoch), 4).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_queue_has_one_connection_and_the_newest_gets_it_next() {
        let mut sessions = sessions();
        assert!(matches!(join(&mut sessions, 2, 1, 5).unwrap().standing, Standing::Now(None)));
        assert_eq!(join(&mut sessions, 3, 1, 5).err(), Some(RefusalReason::Busy));
        assert_eq!(join(&mut sessions, 3, 1, 4).err(), Some(RefusalReason::Busy));
        let second = join(&mut sessions, 4, 1, 6).unwrap();
        assert!(second.is_again);
        assert!(matches!(second.standing, Standing::After { predecessor: 2, superseded: None }));
        let third = join(&mut sessions, 5, 1, 7).unwrap().standing;
        assert!(matches!(third, Standing::After { predecessor: 2, superseded: Some(4) }));
        assert!(sessions.left(&ID, 1, 4, None, 0).is_none());
        assert_eq!(sessions.left(&ID, 1, 2, Some(Slots::new(3)), 0), Some(5));
        let joined = join(&mut sessions, 5, 1, 7).unwrap();
        assert!(!joined.is_again, "it was counted when it came");
        assert!(matches!(joined.standing, Standing::Now(Some(slots)) if slots.credits() == 3));
        let stats = sessions.get(&ID).unwrap().stats;
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
