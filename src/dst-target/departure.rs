//! What becomes of connections and sessions that end.

use std::rc::Rc;

use dst_session::slots::Slots;
use dst_wire::{Event, Hello, SessionRef};

use crate::connection::Remains;
use crate::control::Target;
use crate::sessions::{Owner, SessionId, short};

impl Target {
    /// A connection's socket is shut, and the backend still has something of it.
    pub(crate) fn draining(&self, id: u64) {
        if let Some(entry) = self.state.borrow_mut().connections.get_mut(&id) {
            entry.closed = true;
        }
    }

    /// A connection is gone, and the backend has nothing of it any more.
    pub(crate) fn finished(self: &Rc<Self>, id: u64, remains: Remains) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.connections.remove(&id) else { return };
        state.room.leave(id);
        state.past.fences += u64::from(entry.opens.is_some());
        if entry.place.is_none() {
            state.past.add(&remains.stats);
        }
        drop(state);
        if let Some(place) = entry.place {
            self.leave(id, place, remains);
        }
        if let Some(owner) = entry.owner {
            self.export_idle(&owner.export);
            self.ask_openers(&owner);
        }
        self.stop_if_idle();
    }

    /// A connection that is gone leaves its queue.
    fn leave(self: &Rc<Self>, id: u64, place: SessionRef, remains: Remains) {
        let SessionRef { id: session_id, queue: queue_number, .. } = place;
        let mut state = self.state.borrow_mut();
        match state.sessions.get_mut(&session_id) {
            None => state.past.add(&remains.stats),
            Some(session) => {
                session.stats.add(&remains.stats);
                if let Some(queue) = session.queues.get_mut(&queue_number)
                    && queue.connection == Some(id)
                {
                    if remains.slots.is_none() && queue.lent {
                        // The record is still on its way to a connection that was gone already: the
                        // queue is free when it has come back.
                        return;
                    }
                    queue.slots = remains.slots;
                }
            }
        }
        drop(state);
        self.left(&session_id, queue_number, id, remains.goodbye);
    }

    /// Something of this owner is gone: those of its hellos that waited for it may go on.
    fn ask_openers(self: &Rc<Self>, owner: &Owner) {
        let state = self.state.borrow();
        let mut waiting = Vec::new();
        for (&id, entry) in &state.connections {
            if let Some(hello) = &entry.opens
                && hello.export == owner.export
                && hello.host == owner.host
            {
                waiting.push((id, Hello::clone(hello), entry.peer));
            }
        }
        drop(state);
        for (id, hello, peer) in waiting {
            self.hello(id, hello, peer);
        }
    }

    /// A record comes back from a connection that was gone before it could have it.
    pub(crate) fn returned(self: &Rc<Self>, id: u64, place: (SessionId, u16), slots: Slots) {
        let (session_id, queue_number) = place;
        if let Some(session) = self.state.borrow_mut().sessions.get_mut(&session_id)
            && let Some(queue) = session.queues.get_mut(&queue_number)
            && queue.connection == Some(id)
        {
            queue.slots = Some(slots);
        }
        self.left(&session_id, queue_number, id, false);
    }

    /// A queue is free: the connection that waited for it is next.
    fn left(self: &Rc<Self>, session: &SessionId, queue: u16, id: u64, goodbye: bool) {
        let next = self.state.borrow_mut().sessions.left(session, queue, id, spdk::clock::now_us());
        match next {
            Some((id, hello, peer)) => self.hello(id, hello, peer),
            None if goodbye && queue == 0 => self.close_session(session, "its client said goodbye"),
            None if goodbye => self.state.borrow_mut().sessions.forget_queue(session, queue),
            None => {}
        }
    }

    /// Closes one connection.
    pub(crate) fn close(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.connections.get_mut(&id) else { return };
        entry.closed = true;
        let group = entry.group;
        drop(state);
        self.on_group(group, move |group| group.close(id));
    }

    /// Ends a session and closes its connections.
    pub(crate) fn close_session(&self, id: &SessionId, why: &str) {
        let mut state = self.state.borrow_mut();
        let Some(session) = state.sessions.close(id) else { return };
        state.past.add(&session.stats);
        drop(state);
        self.log.notice(format_args!(
            "DST session {} of host {:?} at export {:?} ends: {why}",
            short(id),
            session.owner.host,
            session.owner.export
        ));
        for id in session.connections() {
            self.close(id);
        }
    }

    /// Ends a session for good: its client is told that it need not come back.
    pub(crate) fn end_session(&self, id: &SessionId, why: &str) {
        let state = self.state.borrow();
        let first = state.sessions.get(id).and_then(|session| session.queues.get(&0)?.connection);
        let group = first.and_then(|id| Some((id, state.connections.get(&id)?.group)));
        drop(state);
        if let Some((id, group)) = group {
            self.on_group(group, move |group| group.event(id, Event::Removed));
        }
        self.close_session(id, why);
    }
}
