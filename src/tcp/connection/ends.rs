//! How a connection ends, and what happens when nothing does.

use crate::event::{Event, Reason};
use crate::mutation::{Mutation, is_on};
use crate::receiver::AckDue;
use crate::segment::{Header, ack_number, header};
use crate::send_queue::Payload;
use crate::sender::Due;
use crate::state::State;

use smoltcp::wire::TcpControl;

use super::{Connection, Context, Poke, User};

impl<F, B: Payload> Connection<F, B> {
    /// Sends a FIN behind the data that is queued. The user goes on reading.
    pub fn shutdown(&mut self, cx: &mut Context<'_, B>) {
        match self.state {
            State::SynSent => self.end(Reason::Aborted, cx),
            // The FIN waits behind the SYN.
            State::SynReceived { .. } => self.sender.close(),
            State::Established => {
                self.sender.close();
                self.state = State::FinWait1;
            }
            State::CloseWait => {
                self.sender.close();
                self.state = State::LastAck;
            }
            State::FinWait1
            | State::FinWait2 { .. }
            | State::Closing
            | State::LastAck
            | State::TimeWait { .. }
            | State::Closed => {}
        }
    }

    /// Closes in both directions. Data that was not read is lost, which the peer is told by a reset
    /// (RFC 2525, 2.17).
    pub fn close(&mut self, cx: &mut Context<'_, B>) {
        if self.receiver.as_ref().is_some_and(|receiver| receiver.has_unread()) {
            return self.abort(Reason::Aborted, cx);
        }
        if let Some(receiver) = &mut self.receiver {
            receiver.discard();
        }
        self.shutdown(cx);
        if self.user != User::Told {
            self.user = User::Gone;
        }
        match &mut self.state {
            State::FinWait2 { until } => *until = Some(cx.now + cx.config.fin_wait),
            State::TimeWait { .. } => self.tell(Reason::Finished, cx),
            _ => {}
        }
    }

    /// Ends the connection at once, and resets the peer's.
    pub fn abort(&mut self, reason: Reason, cx: &mut Context<'_, B>) {
        self.reset_due = self.state.is_synchronized() || matches!(self.state, State::SynReceived { .. });
        self.reset_due &= !matches!(self.state, State::TimeWait { .. });
        self.end(reason, cx);
    }

    /// Takes the word that segments do not get to the peer, see
    /// [`Stack::unreachable`](crate::Stack::unreachable).
    pub fn on_unreachable(&mut self, seq: Option<u32>, cx: &mut Context<'_, B>) {
        let is_ours = seq.is_none_or(|seq| seq == self.sender.initial().wire());
        if self.state == State::SynSent && (is_ours || is_on(Mutation::NoUnreachableCheck)) {
            self.end(Reason::Unreachable, cx);
        }
    }

    /// Ends the connection. Nothing more is sent.
    pub(super) fn end(&mut self, reason: Reason, cx: &mut Context<'_, B>) {
        self.state = State::Closed;
        self.tell(reason, cx);
    }

    /// Gives the user's buffers back, and tells him that the connection has ended.
    fn tell(&mut self, reason: Reason, cx: &mut Context<'_, B>) {
        while let Some(buffer) = self.sender.queue.abandon() {
            cx.events.push_back(Event::Released(self.id, buffer));
        }
        if matches!(self.user, User::Attached | User::Gone) {
            cx.events.push_back(Event::Closed(self.id, reason));
        }
        self.user = User::Told;
    }

    /// Both sides have closed, and this one first.
    pub(super) fn enter_time_wait(&mut self, cx: &mut Context<'_, B>) {
        self.state = State::TimeWait { until: cx.now + cx.config.time_wait };
        if self.user == User::Gone {
            self.tell(Reason::Finished, cx);
        }
        if is_on(Mutation::NoTimeWait) {
            self.end(Reason::Finished, cx);
        }
    }

    /// Returns the reset that the peer is owed, if the connection has ended in such a way.
    pub fn take_reset(&mut self) -> Option<Header> {
        if !std::mem::take(&mut self.reset_due) {
            return None;
        }
        let mut header = header(self.local, self.remote, self.sender.next().wire());
        header.control = TcpControl::Rst;
        header.ack_number = self.receiver.as_ref().and_then(|receiver| ack_number(receiver.next().wire()));
        Some(header)
    }

    /// Returns when something has to happen if nothing is heard, as microseconds. A delayed ACK is
    /// not part of it.
    pub fn deadline(&self, cx: &Context<'_, B>) -> Option<u64> {
        let config = cx.config;
        if self.state == State::Established && self.sender.has_nothing() && config.keep_alive.is_none() {
            return None;
        }
        let life = match self.state {
            State::Closed => return None,
            State::SynSent | State::SynReceived { .. } => Some(self.since + config.connect_timeout),
            State::TimeWait { until } => Some(until),
            State::FinWait2 { until } => until,
            _ => None,
        };
        let earlier = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let silence = earlier(self.sender.alarm(config).at(), self.stall_ends(cx));
        earlier(life, earlier(silence, self.next_keep_alive(cx)))
    }

    /// Returns when an ACK has to be sent that is delayed, as microseconds.
    pub fn delayed_ack(&self) -> Option<u64> {
        match self.receiver.as_ref()?.ack() {
            AckDue::At(at) if self.state != State::Closed => Some(at),
            AckDue::At(_) | AckDue::No | AckDue::Now => None,
        }
    }

    /// Returns when the peer has acknowledged nothing for too long.
    fn stall_ends(&self, cx: &Context<'_, B>) -> Option<u64> {
        if is_on(Mutation::NoUserTimeout) || !self.state.is_synchronized() {
            return None;
        }
        let since = self.sender.stalled_since()?;
        if self.sender.peer_window() > 0 {
            return Some(since + cx.config.user_timeout);
        }
        // A peer may keep its window closed as long as it answers and somebody waits for it.
        match self.user {
            User::Unaware | User::Attached => Some(since.max(self.heard_at) + cx.config.user_timeout),
            User::Gone | User::Told => Some(since + cx.config.fin_wait),
        }
    }

    fn next_keep_alive(&self, cx: &Context<'_, B>) -> Option<u64> {
        let keep_alive = cx.config.keep_alive?;
        let quiet = self.sender.is_idle() && !matches!(self.state, State::TimeWait { .. });
        (self.state.is_synchronized() && quiet)
            .then(|| self.heard_at + keep_alive.idle + u64::from(self.keep_alives) * keep_alive.interval)
    }

    /// Does what is due at this time.
    pub fn on_time(&mut self, cx: &mut Context<'_, B>) {
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= cx.now);
        match self.state {
            State::Closed => return,
            State::SynSent | State::SynReceived { .. }
                if is_due(Some(self.since + cx.config.connect_timeout)) =>
            {
                return self.end(Reason::TimedOut, cx);
            }
            State::TimeWait { until } if until <= cx.now => return self.end(Reason::Finished, cx),
            State::FinWait2 { until } if is_due(until) => return self.abort(Reason::TimedOut, cx),
            _ => {}
        }
        if is_due(self.stall_ends(cx)) {
            return self.abort(Reason::TimedOut, cx);
        }
        if let Some(receiver) = &mut self.receiver
            && matches!(receiver.ack(), AckDue::At(at) if at <= cx.now)
        {
            receiver.ack_now();
        }
        if is_due(self.next_keep_alive(cx)) {
            if cx.config.keep_alive.is_some_and(|keep_alive| self.keep_alives >= keep_alive.probes) {
                return self.abort(Reason::TimedOut, cx);
            }
            self.keep_alives += 1;
            self.poke = Poke::Due;
        }
        if self.sender.on_alarm(cx.now, cx.config) == Due::WindowProbe {
            self.poke = Poke::Due;
        }
    }
}
