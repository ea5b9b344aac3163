//! What follows from a step of a connection: its queue, its timer, its end.

use std::collections::VecDeque;

use crate::connection::{Connection, Context};
use crate::event::{ConnectionId, Event, ListenerId, Reason};
use crate::send_queue::Payload;
use crate::state::State;
use crate::table::{Entry, Stage};

use super::{MAX_REPLIES, Reply, Stack};

/// Sees to it that a connection comes to its turn if it may have something to send. Returns whether
/// it may.
pub(super) fn mark_ready<F, B: Payload>(entry: &mut Entry<F, B>, ready: &mut VecDeque<ConnectionId>) -> bool {
    if !entry.is_ready && entry.connection.has_work() {
        entry.is_ready = true;
        ready.push_back(entry.connection.id());
    }
    entry.is_ready
}

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Does something with a connection, and what follows from it. Returns `None` if there is no
    /// such connection.
    pub(super) fn step<R>(
        &mut self,
        id: ConnectionId,
        now: u64,
        f: impl FnOnce(&mut Connection<F, B>, &mut Context<'_, B>) -> R,
    ) -> Option<R> {
        let entry = self.table.get_mut(id)?;
        let mut cx = Context { now, config: &self.config, events: &mut self.events };
        let result = f(&mut entry.connection, &mut cx);
        self.settle(id, now);
        Some(result)
    }

    /// Moves a connection to where its state belongs.
    pub(super) fn settle(&mut self, id: ConnectionId, now: u64) {
        let Some(entry) = self.table.get_mut(id) else { return };
        match (entry.stage, entry.connection.state()) {
            (_, State::Closed) => return self.remove(id),
            (Stage::HalfOpen(listener), state) if state.is_synchronized() => {
                return self.queue_for_accept(id, listener, now);
            }
            (Stage::InUse, State::TimeWait { .. }) => {
                entry.stage = Stage::Remembered;
                self.remembered.push_back(id);
                self.forget_remembered();
                return self.settle(id, now);
            }
            _ => {}
        }
        // A connection that is about to send is scheduled afterwards. Its deadline of before stays,
        // should the port take nothing.
        if !mark_ready(entry, &mut self.ready) || !self.timers.has(id) {
            self.schedule(id, now);
        }
    }

    /// Sees to it that the connection is looked at by its deadline, and returns that.
    pub(super) fn schedule(&mut self, id: ConnectionId, now: u64) -> Option<u64> {
        let entry = self.table.get_mut(id)?;
        let cx = Context { now, config: &self.config, events: &mut self.events };
        let (deadline, ack) = (entry.connection.deadline(&cx), entry.connection.delayed_ack());
        if let Some(at) = deadline {
            self.timers.by(at, id);
        }
        if let Some(at) = ack {
            self.delay_ack(at, id);
        }
        deadline
    }

    /// Removes a connection without a word.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if self.table.remove(id) {
            self.timers.remove(id);
        }
    }

    /// Removes a connection that has ended.
    fn remove(&mut self, id: ConnectionId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        if let Some(header) = entry.connection.take_reset()
            && self.replies.len() < MAX_REPLIES
        {
            let (local, remote) = (entry.connection.local(), entry.connection.remote());
            self.replies.push_back(Reply { local, remote, header });
        }
        self.forget(id);
    }

    /// A listener's connection is open: it waits to be accepted, if there is room.
    fn queue_for_accept(&mut self, id: ConnectionId, listener: ListenerId, now: u64) {
        let Some(queue) = self.listeners.get_mut(listener.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        if queue.waiting.len() >= queue.backlog {
            let table = &self.table;
            queue.waiting.retain(|id| table.get(*id).is_some());
        }
        let is_full = queue.waiting.len() >= queue.backlog;
        if !is_full {
            queue.waiting.push_back(id);
        }
        if let Some(entry) = self.table.get_mut(id) {
            entry.stage = Stage::Waiting(listener);
        }
        if is_full {
            self.counters.backlog_overflows += 1;
            self.step(id, now, |connection, cx| connection.abort(Reason::Aborted, cx));
            return;
        }
        self.events.push_back(Event::Incoming(listener));
        self.settle(id, now);
    }

    /// Forgets the oldest connections in TIME-WAIT that their users have closed, as long as there
    /// are too many.
    fn forget_remembered(&mut self) {
        while self.remembered.len() > self.config.max_time_wait {
            let Some(oldest) = self.remembered.pop_front() else { return };
            if self.table.get(oldest).is_some_and(|entry| entry.connection.is_told()) {
                self.forget(oldest);
            }
        }
    }
}
