//! Hellos that wait for a long time: their clients are told the reason.
//!
//! A hello waits as long as the backend hangs. Its client cannot tell that from a target that is
//! silent, and gives the connection up. So the client is refused shortly before that, with the
//! reason. It comes back like any client whose target is busy.

use dst_session::negotiate::refuse;
use dst_wire::RefusalReason;

use crate::broker::Broker;
use crate::connection::{Connection, PendingHello, QueueRef, Stage};
use crate::ids::{ClientId, ConnectionId};

/// The time from a connection's accept after which a hello that waits is refused, µs. A tick looks
/// half a second later at the latest, and a client waits two seconds for its Welcome
/// (`HANDSHAKE_TIMEOUT_MS` in `src/client/handshake.rs`).
const WAIT_US: u64 = 1_000_000;

impl Connection {
    /// Returns how long the connection has waited to be admitted, µs, up to the longest wait, or
    /// `None` if it does not wait.
    pub fn waited_us(&self, now_us: u64) -> Option<u64> {
        self.is_waiting().then(|| now_us.saturating_sub(self.since_us).min(WAIT_US))
    }

    /// Returns what the connection waits for, and the client that asks for the session.
    fn waits_for(&self) -> Option<(&'static str, ClientId)> {
        let of = |pending: &PendingHello| ClientId::of(&pending.hello);
        match &self.stage {
            Stage::WaitingToOpen(pending) if pending.hello.claim.is_some() => {
                let why = "the backend has not finished the requests of the export's earlier sessions, for which a \
                           new owner has to wait";
                Some((why, of(pending)))
            }
            Stage::WaitingToOpen(pending) => {
                let why = "the backend has not finished the requests of this host's earlier connections to the \
                           export, for which a new session has to wait";
                Some((why, of(pending)))
            }
            Stage::WaitingForQueue(pending, _) => {
                let why = "the backend has not finished the requests of the connection before this one";
                Some((why, of(pending)))
            }
            // The ownership is being written. A client that is refused now would claim the
            // ownership again, which would be written again.
            Stage::WaitingToOwn(_) => None,
            Stage::Handshaking { .. } | Stage::Ready(_) | Stage::Refused | Stage::Closing { .. } => None,
        }
    }
}

impl Broker {
    /// Refuses the hellos that have waited for [`WAIT_US`].
    pub(crate) fn refuse_waiting(&mut self) {
        let has_waited =
            |connection: &Connection| connection.waited_us(self.now_us).is_some_and(|us| us >= WAIT_US);
        let waiting = self.connections.iter().filter(|(_, connection)| has_waited(connection));
        let ids: Vec<ConnectionId> = waiting.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(entry) = self.connections.get(&id) else { continue };
            let Some((why, client)) = entry.waits_for() else { continue };
            if let Stage::WaitingForQueue(_, QueueRef { session, .. }) = &entry.stage {
                let session = *session;
                // The queue no longer has a successor, and its holder goes on ending.
                self.sessions.left(&session.id, session.queue, id, None, self.now_us);
            }
            self.refuse(id, &client, why, refuse(RefusalReason::Busy, why));
        }
    }
}
