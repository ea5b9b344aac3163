//! What the groups' connections did, for those who ask.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use dst_wire::{Cipher, Digest};
use spdk::clock::now_us;

use crate::control::{ConnectionEntry, Target};
use crate::group;
use crate::sessions::{Session, SessionId, Sessions};
use crate::stats::Stats;

/// All connections, as control sees them.
type Connections = BTreeMap<u64, ConnectionEntry>;

/// What one connection did and does, as its group tells it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    /// Since it began.
    pub stats: Stats,
    /// Requests that the backend has now.
    pub in_flight: usize,
}

/// A session as `dst_get_sessions` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// The export.
    pub export: String,
    /// The client's identity.
    pub host: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// Since when it is open, ms.
    pub age_ms: u64,
    /// The digest of data that its newest connection has.
    pub digest: Digest,
    /// The cipher that it has.
    pub cipher: Cipher,
    /// Its connections, those that wait to be let in included.
    pub connections: Vec<ConnectionInfo>,
    /// What all its connections did.
    pub stats: Stats,
}

/// A connection as `dst_get_sessions` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Which one of the session.
    pub queue: u16,
    /// Counts the connections that this queue has had.
    pub epoch: u32,
    /// The client's address.
    pub peer: SocketAddr,
    /// Since when it is connected, ms.
    pub age_ms: u64,
    /// Requests that the backend has now.
    pub in_flight: usize,
    /// How it is.
    pub state: ConnectionState,
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It waits for the one before it.
    Waiting,
    /// It carries requests, or will.
    Ready,
    /// It is closed, and the backend still has something of it.
    Closing,
}

/// All of the target, as `dst_get_stats` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Since the start.
    pub stats: Stats,
    /// Since the start: hellos that were refused.
    pub refused_hellos: u64,
    /// Since the start: those of them that may come again later.
    pub refused_busy: u64,
    /// Since the start: connections that were closed for a newer one before they were let in.
    pub handshakes_evicted: u64,
    /// Since the start: connections for which there was no room.
    pub connections_refused: u64,
    /// Since the start: sessions that nobody came back to.
    pub sessions_timed_out: u64,
    /// Most connections, as far as there can be open files.
    pub max_connections: u32,
    /// Now, handshakes and those that are closing included.
    pub connections: usize,
    /// Now: connections that have not shown yet that they may come in, those that are being closed left out.
    pub handshakes: usize,
    /// Now: connections that may come in, once the backend has finished what is left of others.
    pub waiting: usize,
    /// Now: closed connections of which the backend still has something.
    pub closing: usize,
    /// Now.
    pub sessions: usize,
    /// Requests that the backend has now.
    pub in_flight: usize,
}

impl Target {
    /// The sessions, of one export or all, once the groups have told their counts.
    pub fn sessions(self: &Rc<Self>, export: Option<String>, done: impl FnOnce(Vec<SessionInfo>) + 'static) {
        self.gather(move |target, counts| {
            let state = target.state.borrow();
            let now_us = now_us();
            let wanted =
                state.sessions.iter().filter(|(_, s)| export.as_ref().is_none_or(|e| *e == s.owner.export));
            let list =
                wanted.map(|(id, session)| show(&state.connections, id, session, &counts, now_us)).collect();
            drop(state);
            done(list);
        });
    }

    /// All that is known of the whole, once the groups have told their counts.
    pub fn totals(self: &Rc<Self>, done: impl FnOnce(Totals) + 'static) {
        self.gather(|target, counts| {
            let state = target.state.borrow();
            let (stats, in_flight) = sum(state.past, &state.sessions, &state.connections, &counts);
            let totals = Totals {
                stats,
                refused_hellos: state.refused_hellos,
                refused_busy: state.refused_busy,
                handshakes_evicted: state.room.evictions,
                connections_refused: state.room.refused,
                sessions_timed_out: state.sessions_timed_out,
                max_connections: target.max_connections(),
                connections: state.connections.len(),
                handshakes: state.room.handshakes(),
                waiting: state.connections.values().filter(|entry| entry.is_waiting()).count(),
                closing: state.connections.values().filter(|entry| entry.closed).count(),
                sessions: state.sessions.len(),
                in_flight,
            };
            drop(state);
            done(totals);
        });
    }

    /// How many requests the backend has of an export, once the groups have told.
    pub(crate) fn in_flight(self: &Rc<Self>, export: &str, done: impl FnOnce(usize) + 'static) {
        let export = export.to_owned();
        self.gather(move |target, counts| {
            let state = target.state.borrow();
            let is_of = |entry: &ConnectionEntry| entry.owner.as_ref().is_some_and(|o| o.export == export);
            let found = state.connections.iter().filter(|(_, entry)| is_of(entry));
            let sum = found.filter_map(|(id, _)| counts.get(id)).map(|count| count.in_flight).sum();
            drop(state);
            done(sum);
        });
    }

    /// Asks every group for its connections' counts.
    pub(crate) fn gather(self: &Rc<Self>, done: impl FnOnce(&Rc<Target>, BTreeMap<u64, Activity>) + 'static) {
        let groups = self.state.borrow().groups.len();
        if groups == 0 {
            return done(self, BTreeMap::new());
        }
        // What comes back is looked up by number: a closure that holds `done` can't leave this thread.
        spdk::thread_local! {
            static GATHERINGS: RefCell<BTreeMap<u64, Gathering>> = RefCell::default();
        }
        type Gathered = Box<dyn FnOnce(&Rc<Target>, BTreeMap<u64, Activity>)>;
        struct Gathering {
            missing: usize,
            counts: BTreeMap<u64, Activity>,
            done: Gathered,
        }
        let key = self.next_id();
        let gathering = Gathering { missing: groups, counts: BTreeMap::new(), done: Box::new(done) };
        GATHERINGS.with(|all| all.borrow_mut().insert(key, gathering));
        fn told(target: &Rc<Target>, key: u64, counts: Vec<(u64, Activity)>) {
            let complete = GATHERINGS.with(|all| {
                let mut all = all.borrow_mut();
                let gathering = all.get_mut(&key)?;
                gathering.counts.extend(counts);
                gathering.missing -= 1;
                if gathering.missing == 0 { all.remove(&key) } else { None }
            });
            if let Some(gathering) = complete {
                (gathering.done)(target, gathering.counts);
            }
        }
        for index in 0..groups {
            let (thread, control) = (self.state.borrow().groups[index].thread, self.thread);
            let ask = move || {
                // A group that could not be started has no connections.
                let mut counts = Vec::new();
                group::with(|group| counts = group.activities());
                let answer = control.send(move || Target::with(|target| told(target, key, counts)));
                assert!(answer.is_ok(), "a target thread can't send to the control thread");
            };
            assert!(thread.send(ask).is_ok(), "control can't send to target thread {index}");
        }
    }
}

/// What all did, and how many requests the backend has. One that ended while the groups were asked has left its counts
/// already.
fn sum(
    past: Stats,
    sessions: &Sessions,
    connections: &Connections,
    counts: &BTreeMap<u64, Activity>,
) -> (Stats, usize) {
    let (mut stats, mut in_flight) = (past, 0);
    sessions.iter().for_each(|(_, session)| stats.add(&session.stats));
    for (_, count) in counts.iter().filter(|(id, _)| connections.contains_key(id)) {
        stats.add(&count.stats);
        in_flight += count.in_flight;
    }
    (stats, in_flight)
}

fn show(
    entries: &Connections,
    id: &SessionId,
    session: &Session,
    counts: &BTreeMap<u64, Activity>,
    now_us: u64,
) -> SessionInfo {
    let age_ms = |since_us: u64| now_us.saturating_sub(since_us) / 1000;
    let mut stats = session.stats;
    let mut connections = Vec::new();
    for (&number, queue) in &session.queues {
        for connection in queue.connections() {
            let activity = counts.get(&connection).copied().unwrap_or_default();
            // One that is gone has left its counts to the session.
            let Some(entry) = entries.get(&connection) else { continue };
            stats.add(&activity.stats);
            let how = match (entry.closed, entry.welcomed) {
                (true, _) => ConnectionState::Closing,
                (false, true) => ConnectionState::Ready,
                (false, false) => ConnectionState::Waiting,
            };
            connections.push(ConnectionInfo {
                queue: number,
                epoch: entry.place.map_or(0, |place| place.epoch),
                peer: entry.peer,
                age_ms: age_ms(entry.since_us),
                in_flight: activity.in_flight,
                state: how,
            });
        }
    }
    SessionInfo {
        id: *id,
        export: session.owner.export.clone(),
        host: session.owner.host.clone(),
        peer: session.peer,
        age_ms: age_ms(session.since_us),
        digest: session.digest,
        cipher: session.cipher,
        connections,
        stats,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Owner;

    #[test]
    fn who_ends_while_all_are_asked_is_counted_once() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let reads = |reads| Stats { reads, ..Stats::default() };
        let (mut sessions, mut connections) = (Sessions::default(), Connections::new());
        let owner = Owner { export: "disk".to_owned(), host: "client".to_owned() };
        sessions.open([7; 16], 1, owner, peer, 0, false);
        let session = sessions.get_mut(&[7; 16]).unwrap();
        // Connection 2 has told, and ended; its queue is not free yet, as its record is on its way.
        session.queues.entry(1).or_default().connection = Some(2);
        session.stats.add(&reads(10));
        connections.insert(1, ConnectionEntry::new(0, peer, 0));
        let count = |count| Activity { stats: reads(count), in_flight: 1 };
        let counts = BTreeMap::from([(1, count(100)), (2, count(10)), (3, count(1))]);
        let (stats, in_flight) = sum(reads(1), &sessions, &connections, &counts);
        assert_eq!((stats.reads, in_flight), (111, 1));
        let session = sessions.get(&[7; 16]).unwrap();
        assert_eq!(show(&connections, &[7; 16], session, &counts, 0).stats.reads, 110);
    }
}
