//! What is shown of sessions and connections, with what the groups' connections did.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dst_wire::{Cipher, Digest};

use crate::broker::Broker;
use crate::connection::{Connection, Stage};
use crate::ids::{ConnectionId, SessionId};
use crate::sessions::{Session, Sessions};
use crate::stats::Stats;

/// All connections.
type Connections = BTreeMap<ConnectionId, Connection>;

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

impl Broker {
    /// Returns the sessions, of one export or all, given what their connections did.
    pub fn session_list(
        &self,
        export: Option<&str>,
        counts: &BTreeMap<ConnectionId, Activity>,
        now_us: u64,
    ) -> Vec<SessionInfo> {
        let is_wanted = |session: &Session| export.is_none_or(|export| export == session.owner.export);
        let wanted = self.sessions.iter().filter(|(_, session)| is_wanted(session));
        wanted.map(|(id, session)| show(&self.connections, id, session, counts, now_us)).collect()
    }

    /// Returns all that is known of the whole, given what the connections did.
    pub fn totals(&self, counts: &BTreeMap<ConnectionId, Activity>) -> Totals {
        let (stats, in_flight) = sum(self.past, &self.sessions, &self.connections, counts);
        Totals {
            stats,
            refused_hellos: self.refused_hellos,
            refused_busy: self.refused_busy,
            handshakes_evicted: self.room.evictions,
            connections_refused: self.room.refused,
            sessions_timed_out: self.sessions_timed_out,
            max_connections: self.limits.max_connections,
            connections: self.connections.len(),
            handshakes: self.room.handshakes(),
            waiting: self.connections.values().filter(|entry| entry.is_waiting()).count(),
            closing: self.connections.values().filter(|entry| !entry.is_open()).count(),
            sessions: self.sessions.len(),
            in_flight,
        }
    }

    /// Returns how many requests the backend has of an export, given what the connections do.
    pub fn in_flight(&self, export: &str, counts: &BTreeMap<ConnectionId, Activity>) -> usize {
        let is_of = |entry: &Connection| entry.queue().is_some_and(|queue| queue.owner.export == export);
        let found = self.connections.iter().filter(|(_, entry)| is_of(entry));
        found.filter_map(|(id, _)| counts.get(id)).map(|count| count.in_flight).sum()
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
    for (number, queue) in session.queues() {
        for connection in queue.connections() {
            let activity = counts.get(&connection).copied().unwrap_or_default();
            // One that is gone has left its counts to the session.
            let Some(entry) = entries.get(&connection) else { continue };
            stats.add(&activity.stats);
            let how = match entry.stage {
                Stage::Closing { .. } => ConnectionState::Closing,
                Stage::Ready(_) => ConnectionState::Ready,
                _ => ConnectionState::Waiting,
            };
            connections.push(ConnectionInfo {
                queue: number,
                epoch: entry.queue().map_or(0, |queue| queue.session.epoch),
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
    use crate::ids::Owner;

    #[test]
    fn who_ends_while_all_are_asked_is_counted_once() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let reads = |reads| Stats { reads, ..Stats::default() };
        let (mut sessions, mut connections) = (Sessions::default(), Connections::new());
        let owner = Owner { export: "disk".to_owned(), host: "client".to_owned() };
        sessions.open([7; 16], 1, owner.clone(), peer, 0, false);
        let place = dst_wire::SessionRef { id: [7; 16], queue: 1, epoch: 0 };
        sessions.join(2, &owner, &place, 10).unwrap();
        let session = sessions.get_mut(&[7; 16]).unwrap();
        // Connection 2 has told, and ended; its queue is not free yet, as its record is on its way.

        session.stats.add(&reads(10));
        connections.insert(1, Connection::new(0, peer, 0));
        let count = |count| Activity { stats: reads(count), in_flight: 1 };
        let counts = BTreeMap::from([(1, count(100)), (2, count(10)), (3, count(1))]);
        let (stats, in_flight) = sum(reads(1), &sessions, &connections, &counts);
        assert_eq!((stats.reads, in_flight), (111, 1));
        let session = sessions.get(&[7; 16]).unwrap();
        assert_eq!(show(&connections, &[7; 16], session, &counts, 0).stats.reads, 110);
    }
}
