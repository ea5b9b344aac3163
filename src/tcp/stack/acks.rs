//! Delayed ACKs.

use crate::event::ConnectionId;
use crate::mutation::{Mutation, is_on};
use crate::send_queue::Payload;

use super::Stack;
use super::settle::mark_ready;

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Sees to it that a connection's ACK is sent by then.
    pub(super) fn delay_ack(&mut self, at: u64, id: ConnectionId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        // One that is in the queue is looked at again when its turn comes.
        if entry.has_delayed_ack {
            return;
        }
        if self.acks.push(at, id) {
            entry.has_delayed_ack = true;
        } else if !is_on(Mutation::NoRefusedAck) {
            self.timers.by(at, id);
        }
    }

    /// Returns true if a connection has a delayed ACK that the queue has refused.
    pub(super) fn may_owe_ack(&self, id: ConnectionId) -> bool {
        let entry = self.table.get(id);
        entry.is_some_and(|entry| !entry.has_delayed_ack && entry.connection.delayed_ack().is_some())
    }

    /// Sends the ACKs that are due.
    pub(super) fn send_delayed_acks(&mut self, now: u64) {
        while let Some(id) = self.acks.due(now) {
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.has_delayed_ack = false;
            match entry.connection.delayed_ack() {
                None => {}
                Some(at) if at <= now => {
                    entry.connection.ack_now();
                    mark_ready(entry, &mut self.ready);
                }
                Some(_) if is_on(Mutation::NoBelatedAck) => {}
                Some(at) => self.timers.by(at, id),
            }
        }
    }
}
