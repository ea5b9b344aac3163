//! The end of connections and sessions.

use dst_session::slots::Slots;
use dst_wire::{Event, SessionRef};

use crate::broker::Broker;
use crate::connection::Remains;
use crate::ids::{ConnectionId, SessionId, short};
use crate::output::{Order, Output, Topic};
use crate::stats::Stats;

impl Broker {
    /// Notes that a connection's socket is shut while the backend still holds requests of the
    /// connection.
    pub(crate) fn draining(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.close();
        }
    }

    /// Removes a connection that is gone and of which the backend holds nothing.
    pub(crate) fn finished(&mut self, id: ConnectionId, remains: Box<Remains>) {
        let Some(entry) = self.connections.remove(&id) else { return };
        self.room.leave(id);
        self.asker_gone(id);
        self.past.fences += u64::from(entry.waited_to_open());
        let Some(queue) = entry.queue() else {
            self.past.add(&remains.stats);
            return;
        };
        self.leave(id, &queue.client.export, queue.session, *remains);
        self.drained(&queue.client.export);
        self.ask_openers(&queue.client);
    }

    /// Lets a connection that is gone leave its queue.
    fn leave(&mut self, id: ConnectionId, export: &str, reference: SessionRef, remains: Remains) {
        let Remains { slots, goodbye, stats } = remains;
        match self.sessions.get_mut(&reference.id) {
            None => self.keep(export, &stats),
            Some(session) => {
                session.past_mut().add(&stats);
                let has_it =
                    session.queue(reference.queue).is_some_and(|queue| queue.connection() == Some(id));
                if has_it && reference.queue != 0 && slots.is_none() {
                    // The record is still on its way to this connection, which is gone already. The
                    // queue becomes free once the record has come back.
                    return;
                }
            }
        }
        self.left(&reference.id, reference.queue, id, slots, goodbye);
    }

    /// Keeps the counts of what has ended at an export, which may be gone.
    fn keep(&mut self, export: &str, stats: &Stats) {
        self.past.add(stats);
        if let Some(export) = self.exports.get_mut(export) {
            export.past.add(stats);
        }
    }

    /// Takes back a record from a connection that was gone before it could receive the record.
    pub(crate) fn returned(&mut self, id: ConnectionId, session: &SessionId, queue: u16, slots: Slots) {
        self.left(session, queue, id, Some(slots), false);
    }

    /// Frees a queue that a connection has left, for the connection that waited for it. Without
    /// one, a Goodbye ends the queue, or the session if the queue is queue 0.
    fn left(
        &mut self,
        session: &SessionId,
        queue: u16,
        id: ConnectionId,
        slots: Option<Slots>,
        goodbye: bool,
    ) {
        match self.sessions.left(session, queue, id, slots, self.now_us) {
            Some(next) => self.queue_is_free(next),
            None if goodbye && queue == 0 => self.close_session(session, "its client said goodbye"),
            None if goodbye => self.sessions.forget_queue(session, queue),
            None => {}
        }
    }

    /// Closes one connection.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let carries_requests = entry.carries_requests();
        if entry.close() {
            let group = entry.group;
            let order = if self.is_stopping && carries_requests { Order::Leave } else { Order::Close };
            self.output(Output::ToGroup { group, connection: id, order });
        }
    }

    /// Ends a session and closes its connections.
    pub(crate) fn close_session(&mut self, id: &SessionId, why: &str) {
        let Some(session) = self.sessions.close(id) else { return };
        if let Some(past) = session.past() {
            self.keep(&session.client.export, past);
        }
        self.notice(Topic::Sessions, || {
            format!(
                "DST session {} of host {:?} at export {:?} ends: {why}",
                short(id),
                session.client.host,
                session.client.export
            )
        });
        for connection in session.connections() {
            self.close(connection);
        }
    }

    /// Ends a session for good: its client is told not to come back.
    pub(crate) fn end_session(&mut self, id: &SessionId, why: &str) {
        let first = self.sessions.get(id).and_then(|session| session.queue(0)?.connection());
        if let Some(first) = first {
            self.order(first, Order::Event(Event::Removed));
        }
        self.close_session(id, why);
    }
}
