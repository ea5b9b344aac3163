//! What is shown of sessions and connections, combined with the counts that the groups hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dst_wire::{Cipher, Digest};
use rustc_hash::FxHashMap;

use crate::broker::Broker;
use crate::connection::{Connection, Stage};
use crate::export::Export;
use crate::ids::{ConnectionId, SessionId};
use crate::sessions::{Session, Sessions};
use crate::stats::Stats;

/// All connections.
type Connections = BTreeMap<ConnectionId, Connection>;

/// The counts of one connection, as its group reports them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionActivity {
    /// The counts since the connection began.
    pub stats: Stats,
    /// The number of the connection's requests that the backend has now.
    pub in_flight: usize,
}

/// The counts of connections, as their groups report them. They are boxed, because a map moves its
/// values, and these have some 1,000 bytes. A connection that is missing has counted nothing.
pub type Reported = BTreeMap<ConnectionId, Box<ConnectionActivity>>;

/// A session as `dst_get_sessions` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session's id.
    pub id: SessionId,
    /// The export.
    pub export: String,
    /// The client's host.
    pub host: String,
    /// The address of the session's first connection.
    pub peer: SocketAddr,
    /// The time since the session was opened, ms.
    pub age_ms: u64,
    /// The data digest of the session's newest connection.
    pub digest: Digest,
    /// The cipher of the session's newest connection.
    pub cipher: Cipher,
    /// The session's connections, including those that wait to be admitted.
    pub connections: Vec<ConnectionInfo>,
    /// The counts of all the session's connections.
    pub stats: Stats,
}

/// A connection as `dst_get_sessions` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The queue's number in the session.
    pub queue: u16,
    /// The epoch, which tells the successive connections of the queue apart.
    pub epoch: u32,
    /// The client's address.
    pub peer: SocketAddr,
    /// The time since the connection was accepted, ms.
    pub age_ms: u64,
    /// The number of the connection's requests that the backend has now.
    pub in_flight: usize,
    /// The connection's state.
    pub state: ConnectionState,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// The connection waits for the one before it.
    Waiting,
    /// The connection is admitted.
    Ready,
    /// The connection is closed, and the backend may still hold requests of it.
    Closing,
}

/// The counts of the whole target, as `dst_get_stats` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// The counts since the start.
    pub stats: Stats,
    /// The number of refused hellos since the start.
    pub refused_hellos: u64,
    /// The number of these refusals after which the client may try again.
    pub refused_busy: u64,
    /// The number of connections that were closed for a newer one before they were admitted, since
    /// the start.
    pub handshakes_evicted: u64,
    /// The number of connections for which there was no room, since the start.
    pub connections_refused: u64,
    /// The number of sessions that timed out because no client came back to them, since the start.
    pub sessions_timed_out: u64,
    /// The maximum number of connections, as far as the limit on open files allows.
    pub max_connections: u32,
    /// The number of connections now, including handshakes and connections that are closing.
    pub connections: usize,
    /// The number of connections now that may be evicted: those that are neither admitted nor
    /// waiting to be. Evicted connections are left out.
    pub handshakes: usize,
    /// The number of connections now that wait to be admitted, until what is left of others has
    /// ended.
    pub waiting: usize,
    /// The number of closed connections now of which the backend may still hold requests.
    pub closing: usize,
    /// The number of sessions now.
    pub sessions: usize,
    /// The number of requests that the backend has now.
    pub in_flight: usize,
}

/// The activity at one export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportActivity {
    /// The size in bytes; 0 while the bdev is not present.
    pub size_bytes: u64,
    /// Whether the export is being deleted.
    pub is_deleting: bool,
    /// The counts since the export was created.
    pub stats: Stats,
    /// The number of sessions now.
    pub sessions: usize,
    /// The number of connections now, including those that wait to be admitted or are closing.
    pub connections: usize,
    /// The number of requests that the backend has now.
    pub in_flight: usize,
}

/// The activities of all exports, each of which is summed when it is asked for: a table of them would
/// have some 1,000 bytes for each export.
#[derive(Debug)]
pub struct Activities<'a> {
    exports: Vec<Sum<'a>>,
    /// The places in `exports` by name. Comparing names, as a search in a sorted list does, took a
    /// fifth of a scrape's time.
    places: FxHashMap<&'a str, u32>,
    /// What is added up, each with the place of the export's next one.
    sources: Vec<(Source<'a>, Option<u32>)>,
}

/// An export, and the place of the first source of its activity.
#[derive(Debug)]
struct Sum<'a> {
    export: &'a Export,
    first: Option<u32>,
}

/// What an export's activity is the sum of.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    /// What the connections of a session have counted that have ended, if anything.
    Session(Option<&'a Stats>),
    /// A connection, and what it has counted.
    Connection(Option<&'a ConnectionActivity>),
}

impl Activities<'_> {
    /// Returns the activity of an export, or `None` if the broker does not know it.
    pub fn of(&self, name: &str) -> Option<ExportActivity> {
        let place = *self.places.get(name)?;
        let Sum { export, first } = self.exports[place as usize];
        let device = export.online().map(|online| &online.device);
        let mut activity = ExportActivity {
            size_bytes: device.map_or(0, |device| device.num_blocks.saturating_mul(device.block_size.into())),
            is_deleting: export.is_deleting(),
            stats: export.past,
            ..ExportActivity::default()
        };
        let mut next = first;
        while let Some((source, following)) = next.map(|place| self.sources[place as usize]) {
            next = following;
            match source {
                Source::Session(past) => {
                    activity.sessions += 1;
                    if let Some(past) = past {
                        activity.stats.add(past);
                    }
                }
                Source::Connection(count) => {
                    activity.connections += 1;
                    if let Some(count) = count {
                        activity.stats.add(&count.stats);
                        activity.in_flight += count.in_flight;
                    }
                }
            }
        }
        Some(activity)
    }
}

impl Broker {
    /// Returns what the activity of each export is the sum of, given the counts of the connections.
    pub fn activities<'a>(&'a self, counts: &'a Reported) -> Activities<'a> {
        let mut exports: Vec<_> = self.exports.values().map(|export| Sum { export, first: None }).collect();
        let places: FxHashMap<_, _> = self.exports.keys().map(String::as_str).zip(0..).collect();
        let mut sources = Vec::with_capacity(self.connections.len() + self.sessions.len());
        // Most that follow each other are of one export, so the last one is kept at hand.
        let mut last = None;
        let mut add = |name: &'a str, source| {
            let place = match last {
                Some((found, place)) if found == name => Some(place),
                _ => places.get(name).copied(),
            };
            if let Some(place) = place {
                last = Some((name, place));
                let following = exports[place as usize].first.replace(sources.len() as u32);
                sources.push((source, following));
            }
        };
        for (_, session) in self.sessions.iter() {
            add(&session.client.export, Source::Session(session.past()));
        }
        for (id, connection) in &self.connections {
            // As in `sum`, a connection that has ended meanwhile is not counted twice.
            if let Some(queue) = connection.queue() {
                add(&queue.client.export, Source::Connection(counts.get(id).map(|count| &**count)));
            }
        }
        Activities { exports, places, sources }
    }

    /// Returns the sessions of one export or of all, given the counts of their connections.
    pub fn session_list(&self, export: Option<&str>, counts: &Reported, now_us: u64) -> Vec<SessionInfo> {
        let is_wanted = |session: &Session| export.is_none_or(|export| export == session.client.export);
        let wanted = self.sessions.iter().filter(|(_, session)| is_wanted(session));
        wanted.map(|(id, session)| show(&self.connections, id, session, counts, now_us)).collect()
    }

    /// Returns the counts of the whole target, given those of the connections.
    pub fn totals(&self, counts: &Reported) -> Totals {
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

    /// Returns the number of an export's requests that the backend has, given the counts of the
    /// connections.
    pub fn in_flight(&self, export: &str, counts: &Reported) -> usize {
        let is_of = |entry: &Connection| entry.queue().is_some_and(|queue| queue.client.export == export);
        let found = self.connections.iter().filter(|(_, entry)| is_of(entry));
        found.filter_map(|(id, _)| counts.get(id)).map(|count| count.in_flight).sum()
    }
}

/// Returns the sum of all counts, and the number of requests that the backend has. A connection
/// that ended while the groups were asked has already left its counts to its session.
fn sum(past: Stats, sessions: &Sessions, connections: &Connections, counts: &Reported) -> (Stats, usize) {
    let (mut stats, mut in_flight) = (past, 0);
    sessions.iter().filter_map(|(_, session)| session.past()).for_each(|past| stats.add(past));
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
    counts: &Reported,
    now_us: u64,
) -> SessionInfo {
    let age_ms = |since_us: u64| now_us.saturating_sub(since_us) / 1000;
    let mut stats = session.past().copied().unwrap_or_default();
    let mut connections = Vec::new();
    for (number, queue) in session.queues() {
        for connection in queue.connections() {
            let activity = counts.get(&connection).map(|count| **count).unwrap_or_default();
            // A connection that is gone has left its counts to the session.
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
        export: session.client.export.clone(),
        host: session.client.host.clone(),
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
    use crate::connection::{QueueRef, Remains};
    use crate::export::Rules;
    use crate::ids::ClientId;

    #[test]
    fn who_ends_while_all_are_asked_is_counted_once() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let reads = |reads| Stats { reads, ..Stats::default() };
        let (mut sessions, mut connections) = (Sessions::default(), Connections::new());
        let client = ClientId { export: "disk".to_owned(), host: "client".to_owned() };
        sessions.open([7; 16], 1, client.clone(), peer, 0, false);
        let place = dst_wire::SessionRef { id: [7; 16], queue: 1, epoch: 0 };
        sessions.join(2, &client, &place, 10).unwrap();
        let session = sessions.get_mut(&[7; 16]).unwrap();
        // Connection 2 has reported its counts and ended; its queue is not free yet, because the
        // record is on its way.

        session.past_mut().add(&reads(10));
        connections.insert(1, Connection::new(0, peer, 0));
        let count = |count| Box::new(ConnectionActivity { stats: reads(count), in_flight: 1 });
        let counts = BTreeMap::from([(1, count(100)), (2, count(10)), (3, count(1))]);
        let (stats, in_flight) = sum(reads(1), &sessions, &connections, &counts);
        assert_eq!((stats.reads, in_flight), (111, 1));
        let session = sessions.get(&[7; 16]).unwrap();
        assert_eq!(show(&connections, &[7; 16], session, &counts, 0).stats.reads, 110);
    }

    #[test]
    fn an_export_keeps_the_counts_of_what_has_ended() {
        let mut broker = Broker::new(crate::tests::LIMITS);
        let client = ClientId { export: "disk".to_owned(), host: "client".to_owned() };
        for name in ["disk", "idle"] {
            broker.create_export(name, Rules::default()).unwrap();
        }
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let reads = |reads| Stats { reads, ..Stats::default() };
        broker.sessions.open([7; 16], 1, client.clone(), peer, 0, false);
        broker.sessions.get_mut(&[7; 16]).unwrap().past_mut().add(&reads(10));
        let session = dst_wire::SessionRef { id: [7; 16], queue: 1, epoch: 0 };
        let ready = Stage::Ready(QueueRef { client, session });
        broker.connections.insert(1, Connection { stage: ready, ..Connection::new(0, peer, 0) });
        let shown = |broker: &Broker, counts: &Reported| {
            let activities = broker.activities(counts);
            assert_eq!(activities.of("idle"), Some(ExportActivity::default()));
            assert_eq!(activities.of("other"), None);
            let ExportActivity { stats, sessions, connections, in_flight, .. } =
                activities.of("disk").unwrap();
            (stats.reads, sessions, connections, in_flight)
        };
        let counts = BTreeMap::from([(1, Box::new(ConnectionActivity { stats: reads(5), in_flight: 2 }))]);
        assert_eq!(shown(&broker, &counts), (15, 1, 1, 2));
        broker.close_session(&[7; 16], "the test says so");
        assert_eq!(shown(&broker, &counts), (15, 0, 1, 2));
        // The session is gone when its last connection ends.
        let remains = Remains { slots: None, goodbye: false, stats: reads(6) };
        broker.finished(1, Box::new(remains));
        assert_eq!(shown(&broker, &BTreeMap::new()), (16, 0, 0, 0));
        assert_eq!(broker.totals(&BTreeMap::new()).stats.reads, 16);
    }
}
