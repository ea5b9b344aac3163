//! What becomes of connections and sessions that end.

use dst_session::slots::Slots;
use dst_wire::{Event, SessionRef};

use crate::broker::Broker;
use crate::connection::Remains;
use crate::ids::{ConnectionId, SessionId, short};
use crate::output::{Order, Output, Topic};

impl Broker {
    /// A connection's socket is shut, and the backend still has something of it.
    pub(crate) fn draining(&mut self, id: ConnectionId) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.close();
        }
    }

    /// A connection is gone, and the backend has nothing of it any more.
    pub(crate) fn finished(&mut self, id: ConnectionId, remains: Box<Remains>) {
        let Some(entry) = self.connections.remove(&id) else { return };
        self.room.leave(id);
        self.asker_gone(id);
        self.past.fences += u64::from(entry.waited_to_open());
        let Some(queue) = entry.queue() else {
            self.past.add(&remains.stats);
            return;
        };
        self.leave(id, queue.session, *remains);
        self.drained(&queue.owner.export);
        self.ask_openers(&queue.owner);
    }

    /// A connection that is gone leaves its queue.
    fn leave(&mut self, id: ConnectionId, place: SessionRef, remains: Remains) {
        let Remains { slots, goodbye, stats } = remains;
        match self.sessions.get_mut(&place.id) {
            None => self.past.add(&stats),
            Some(session) => {
                session.stats.add(&stats);
                let has_it = session.queue(place.queue).is_some_and(|queue| queue.connection() == Some(id));
                if has_it && place.queue != 0 && slots.is_none() {
                    // The record is still on its way to a connection that was gone already: the queue is
                    // free when it has come back.
                    return;
                }
            }
        }
        self.left(&place.id, place.queue, id, slots, goodbye);
    }

    /// A record comes back from a connection that was gone before it could have it.
    pub(crate) fn returned(&mut self, id: ConnectionId, session: &SessionId, queue: u16, slots: Slots) {
        self.left(session, queue, id, Some(slots), false);
    }

    /// A connection has left its queue: the one that waited for that is next.
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
        if entry.close() {
            let group = entry.group;
            self.output(Output::ToGroup { group, connection: id, order: Order::Close });
        }
    }

    /// Ends a session and closes its connections.
    pub(crate) fn close_session(&mut self, id: &SessionId, why: &str) {
        let Some(session) = self.sessions.close(id) else { return };
        self.past.add(&session.stats);
        self.notice(Topic::Sessions, || {
            format!(
                "DST session {} of host {:?} at export {:?} ends: {why}",
                short(id),
                session.owner.host,
                session.owner.export
            )
        });
        for connection in session.connections() {
            self.close(connection);
        }
    }

    /// Ends a session for good: its client is told that it need not come back.
    pub(crate) fn end_session(&mut self, id: &SessionId, why: &str) {
        let first = self.sessions.get(id).and_then(|session| session.queue(0)?.connection());
        if let Some(first) = first {
            self.order(first, Order::Event(Event::Removed));
        }
        self.close_session(id, why);
    }
}
