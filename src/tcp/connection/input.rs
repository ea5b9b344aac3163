//! A segment arrives (RFC 9293, 3.10.7, with RFC 7323's and RFC 5961's checks).

use std::ops::Range;

use crate::clock::is_older;
use crate::config::Config;
use crate::event::{Event, ListenerId, Reason};
use crate::mutation::{Mutation, is_on};
use crate::receiver::Receiver;
use crate::segment::Segment;
use crate::send_queue::Payload;
use crate::sender::{Heard, TIMESTAMP_BYTES};
use crate::seq::Seq;
use crate::state::State;

use super::{Agreed, CHALLENGE_PERIOD, CHALLENGES, Connection, Context, Opening, User};

/// The MSS of a peer that names none (RFC 9293, 3.7.1).
const DEFAULT_MSS: u16 = 536;
const DEFAULT_MSS_V6: u16 = 1220;

/// No smaller MSS is believed: it would cost a header, an interrupt and a record for every few
/// bytes.
const SMALLEST_MSS: u16 = 64;

/// What a segment is answered with, beside what the connection itself sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    /// A reset that fits the segment (RFC 9293, 3.10.7.1).
    Reset,
}

/// A segment with data whose acknowledgement number, window and timestamp are those of the segment
/// that the connection has received before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predicted {
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub timestamp: u32,
    /// The length of the data.
    pub length: u64,
}

impl<F, B: Payload> Connection<F, B> {
    /// Returns true if [`Connection::input_predicted`] does all that [`Connection::input`] would.
    pub fn is_predicted(&self, predicted: &Predicted) -> bool {
        let Some(receiver) = &self.receiver else { return false };
        let is_open = self.state == State::Established && self.user == User::Attached;
        (is_open || is_on(Mutation::NoPredictedState))
            && self.agreed.clock.is_some()
            // The segment that it continues may have been refused for its timestamp.
            && (receiver.recent().is_some_and(|recent| !is_older(predicted.timestamp, recent))
                || is_on(Mutation::NoPredictedTimestamp))
            && receiver.is_next(predicted.seq, predicted.length)
            && self.sender.una().wire() == predicted.ack
            && self.sender.is_recovered()
    }

    /// Takes a segment with the next data.
    pub fn input_predicted(
        &mut self,
        predicted: &Predicted,
        payload: Range<usize>,
        frame: F,
        cx: &mut Context<'_, B>,
    ) {
        let Some(receiver) = &mut self.receiver else { return };
        let seq = receiver.next();
        (self.heard_at, self.keep_alives) = (cx.now, 0);
        receiver.note_timestamp(seq, predicted.timestamp, cx.now);
        self.sender.on_repeated_ack(seq, predicted.window);
        if receiver.on_segment(seq, payload, false, frame, cx.config, cx.now) {
            cx.events.push_back(Event::Readable(self.id));
        }
    }

    /// Returns a connection for a SYN that came to a listener.
    pub fn passive(
        opening: Opening,
        listener: ListenerId,
        syn: &Segment,
        config: &Config,
        now: u64,
    ) -> Connection<F, B> {
        let state = State::SynReceived { listener: Some(listener) };
        let mut connection = Connection::new(opening, state, User::Unaware, config, now);
        connection.take_syn(syn, config, now);
        connection
    }

    /// Takes what the peer's SYN says.
    fn take_syn(&mut self, syn: &Segment, config: &Config, now: u64) {
        let initial = Seq::initial(syn.seq);
        let timestamp = syn.timestamp.filter(|_| config.timestamps).map(|(value, _)| value);
        let window_scaling = config.window_scaling && syn.window_shift.is_some();
        let clock = timestamp.map(|_| self.clock);
        self.agreed = Agreed { sack: config.sack && syn.sack_permitted, window_scaling, clock };
        let shift = if window_scaling { config.window_shift() } else { 0 };
        self.receiver = Some(Receiver::new(initial, shift, self.agreed.sack, timestamp, config, now));
        let default = if self.remote.is_ipv6() { DEFAULT_MSS_V6 } else { DEFAULT_MSS };
        let mss =
            u64::from(syn.mss.unwrap_or(default).min(config.mss_for(self.remote.ip())).max(SMALLEST_MSS));
        let options = if clock.is_some() { TIMESTAMP_BYTES } else { 0 };
        let peer_shift = syn.window_shift.filter(|_| window_scaling).unwrap_or(0);
        self.sender.negotiated(mss - options, peer_shift, self.agreed.sack, clock);
        self.sender.on_syn_window(initial, syn.window);
    }

    /// Takes a segment, whose data is in `frame`.
    pub fn input(&mut self, segment: &Segment, frame: F, cx: &mut Context<'_, B>) -> Answer {
        let Some(receiver) = &mut self.receiver else { return self.input_syn_sent(segment, cx) };
        let (seq, length) = (receiver.next().near(segment.seq), segment.sequence_len());
        if let (Some(_), false) = (self.agreed.clock, segment.rst) {
            match segment.timestamp {
                Some((value, _)) if receiver.is_old(value, cx.now) => {
                    self.note_old(seq, segment, cx);
                    return Answer::Nothing;
                }
                Some(_) => {}
                // RFC 7323, 3.2: a segment that lacks the agreed option is not the peer's.
                None => return Answer::Nothing,
            }
        }
        if segment.rst {
            self.input_reset(seq, cx);
            return Answer::Nothing;
        }
        if segment.syn {
            return self.input_syn(seq, segment, cx);
        }
        let (is_closed, next) = (receiver.is_window_closed(), receiver.next());
        if !receiver.accepts(seq, length) {
            self.note_old(seq, segment, cx);
            // With the window closed, only ACKs can get through, and they have to (RFC 9293,
            // 3.10.7.4). None is beyond the window: it would make what the peer says of its own
            // window look old.
            if is_closed && seq <= next {
                self.acknowledgment(seq, segment, cx);
            }
            return Answer::Nothing;
        }
        (self.heard_at, self.keep_alives) = (cx.now, 0);
        if let Some((value, _)) = segment.timestamp {
            receiver.note_timestamp(seq, value, cx.now);
        }
        if segment.ack.is_none() {
            return Answer::Nothing;
        }
        match self.acknowledgment(seq, segment, cx) {
            Answer::Nothing if self.state != State::Closed => self.input_data(seq, segment, frame, cx),
            answer => answer,
        }
    }

    /// RFC 9293, 3.10.7.3.
    fn input_syn_sent(&mut self, segment: &Segment, cx: &mut Context<'_, B>) -> Answer {
        let next = self.sender.next();
        let acked = segment.ack.map(|ack| next.near(ack));
        if acked.is_some_and(|ack| ack != next || next == self.sender.initial()) {
            return if segment.rst { Answer::Nothing } else { Answer::Reset };
        }
        if segment.rst {
            if acked.is_some() {
                self.end(Reason::Refused, cx);
            }
            return Answer::Nothing;
        }
        if !segment.syn {
            return Answer::Nothing;
        }
        self.take_syn(segment, cx.config, cx.now);
        self.heard_at = cx.now;
        match acked {
            Some(ack) => {
                self.take_ack(Seq::initial(segment.seq), ack, segment, cx);
                self.state = State::Established;
                cx.events.push_back(Event::Connected(self.id));
                self.ack_now();
            }
            // Both sides have connected at once: the SYN is sent again, with an ACK.
            None => {
                self.state = State::SynReceived { listener: None };
                self.sender.repeat_first();
            }
        }
        Answer::Nothing
    }

    /// Sees to it that an ACK is sent.
    pub fn ack_now(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.ack_now();
        }
    }

    /// Asks for an ACK to something that is not the peer's, or old, unless there were many of
    /// these.
    fn challenge(&mut self, now: u64) {
        if now.saturating_sub(self.challenges.0) >= CHALLENGE_PERIOD {
            self.challenges = (now, 0);
        }
        if self.challenges.1 < CHALLENGES {
            self.challenges.1 += 1;
            self.ack_now();
        }
    }

    /// Answers a segment outside of the window. Data that was received before is reported as such.
    fn note_old(&mut self, seq: Seq, segment: &Segment, cx: &mut Context<'_, B>) {
        let Some(receiver) = &mut self.receiver else { return };
        // The peer repeats its FIN, or what came before it, since ACKs were lost. It must not be reset
        // later. RFC 9293 says so of the FIN; Linux, too, does it for other segments.
        if segment.sequence_len() > 0
            && seq + segment.sequence_len() <= receiver.next()
            && let State::TimeWait { until } = &mut self.state
        {
            *until = cx.now + cx.config.time_wait;
        }
        let length = segment.payload.len() as u64;
        if length > 0 && seq + length <= receiver.next() && self.agreed.sack {
            receiver.note_duplicate(seq, length);
        } else if length > 0 || segment.fin {
            receiver.ack_now();
        } else {
            self.challenge(cx.now);
        }
    }

    /// RFC 5961, 3: only a reset at exactly the next position is believed.
    fn input_reset(&mut self, seq: Seq, cx: &mut Context<'_, B>) {
        let Some(receiver) = &self.receiver else { return };
        let (within, exact) = receiver.reset_position(seq);
        if exact || (within && is_on(Mutation::NoResetCheck)) {
            let reason = match self.state {
                State::SynReceived { listener: None } => Reason::Refused,
                // RFC 1337: a reset does not shorten TIME-WAIT.
                State::TimeWait { .. } => return,
                _ => Reason::Reset,
            };
            self.end(reason, cx);
        } else if within {
            self.challenge(cx.now);
        }
    }

    /// A SYN on an existing connection (RFC 5961, 4).
    fn input_syn(&mut self, seq: Seq, segment: &Segment, cx: &mut Context<'_, B>) -> Answer {
        let Some(receiver) = &self.receiver else { return Answer::Nothing };
        match self.state {
            // Our SYN got lost, or theirs was sent twice.
            State::SynReceived { listener: Some(_) }
                if seq == receiver.initial() && segment.ack.is_none() =>
            {
                self.sender.repeat_first();
            }
            State::SynReceived { listener: None } if seq == receiver.initial() && segment.ack.is_some() => {
                return self.acknowledgment(seq, segment, cx);
            }
            _ if is_on(Mutation::NoSynCheck) => self.end(Reason::Reset, cx),
            _ => self.challenge(cx.now),
        }
        Answer::Nothing
    }

    /// Takes the ACK of a segment (RFC 9293, 3.10.7.4, fifth). Returns what is wrong with it.
    fn acknowledgment(&mut self, seq: Seq, segment: &Segment, cx: &mut Context<'_, B>) -> Answer {
        let Some(wire) = segment.ack else { return Answer::Nothing };
        let (una, next) = (self.sender.una(), self.sender.next());
        let ack = una.near(wire);
        if let State::SynReceived { listener } = self.state {
            if ack <= una || ack > next {
                return Answer::Reset;
            }
            self.state = if self.sender.is_closing() { State::FinWait1 } else { State::Established };
            // A listener's connection is announced when it is in its queue.
            if listener.is_none() {
                cx.events.push_back(Event::Connected(self.id));
            }
        }
        // RFC 5961, 5.
        if ack > next || ack + self.sender.max_window() < una {
            self.challenge(cx.now);
            return Answer::Nothing;
        }
        // One that was overtaken tells nothing new.
        if ack >= una {
            self.take_ack(seq, ack, segment, cx);
        }
        if self.sender.is_fin_acked() {
            match self.state {
                State::FinWait1 => {
                    let until = (self.user == User::Gone).then_some(cx.now + cx.config.fin_wait);
                    self.state = State::FinWait2 { until };
                }
                State::Closing => self.enter_time_wait(cx),
                State::LastAck => self.end(Reason::Finished, cx),
                _ => {}
            }
        }
        Answer::Nothing
    }

    fn take_ack(&mut self, seq: Seq, ack: Seq, segment: &Segment, cx: &mut Context<'_, B>) {
        let heard = Heard {
            seq,
            ack,
            window: segment.window,
            syn: segment.syn,
            sack: if self.agreed.sack { segment.sack } else { [None; 3] },
            echo: segment.timestamp.filter(|_| self.agreed.clock.is_some()).map(|(_, echo)| echo),
            carries: segment.sequence_len() > 0,
        };
        if self.sender.on_ack(&heard, cx.now) {
            while let Some(buffer) = self.sender.queue.release(ack) {
                cx.events.push_back(Event::Released(self.id, buffer));
            }
        }
    }

    /// Takes data and FIN (RFC 9293, 3.10.7.4, seventh and eighth).
    fn input_data(&mut self, seq: Seq, segment: &Segment, frame: F, cx: &mut Context<'_, B>) -> Answer {
        let Some(receiver) = &mut self.receiver else { return Answer::Nothing };
        if segment.payload.is_empty() && !segment.fin {
            return Answer::Nothing;
        }
        if !self.state.may_receive() {
            // What the peer sends after its FIN.
            receiver.ack_now();
            return Answer::Nothing;
        }
        let end = seq + segment.payload.len() as u64;
        if self.user == User::Gone && end > receiver.next() && !segment.payload.is_empty() {
            self.abort(Reason::Unread, cx);
            return Answer::Nothing;
        }
        let tell = receiver.on_segment(seq, segment.payload.clone(), segment.fin, frame, cx.config, cx.now);
        let finished = receiver.is_finished();
        if tell && self.user == User::Attached {
            cx.events.push_back(Event::Readable(self.id));
        }
        if finished {
            match self.state {
                State::Established => self.state = State::CloseWait,
                State::FinWait1 => self.state = State::Closing,
                State::FinWait2 { .. } => self.enter_time_wait(cx),
                _ => {}
            }
        }
        Answer::Nothing
    }
}

impl<F, B: Payload> Connection<F, B> {
    /// Returns whether a SYN may take the place of this connection, which is in TIME-WAIT (RFC
    /// 6191), and which the user has closed.
    pub fn may_be_replaced(&self, syn: &Segment) -> bool {
        let (State::TimeWait { .. }, User::Told, Some(receiver)) = (self.state, self.user, &self.receiver)
        else {
            return false;
        };
        match (syn.timestamp, receiver.recent()) {
            (Some((value, _)), Some(recent)) => is_older(recent, value),
            _ => receiver.next().near(syn.seq) > receiver.next(),
        }
    }
}
