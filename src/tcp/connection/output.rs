//! The segments that a connection sends.

use smoltcp::wire::TcpControl;

use crate::receiver::AckDue;
use crate::segment::{Header, Outgoing, ack_number, header, timestamp};
use crate::send_queue::Payload;
use crate::sender::Plan;
use crate::seq::Seq;
use crate::state::State;

use super::{Connection, Context, Poke};

impl<F, B: Payload> Connection<F, B> {
    /// Hands segments of up to `budget` parts to `sink`. Returns how many parts; fewer than `budget`
    /// means that nothing more is to be sent now.
    pub fn transmit(
        &mut self,
        budget: usize,
        cx: &Context<'_, B>,
        sink: &mut impl FnMut(&Outgoing<'_, B>),
    ) -> usize {
        let mut count = 0;
        while count < budget && self.has_work() {
            let parts = self.transmit_one(budget - count, cx, sink);
            if parts == 0 {
                break;
            }
            count += parts;
        }
        count
    }

    /// Returns false if there is nothing to be sent, which costs less to find out than
    /// [`Connection::transmit`] does. If it returns true, the peer's window or the congestion
    /// window may still forbid to send.
    pub fn has_work(&self) -> bool {
        self.poke == Poke::Due || self.owes_ack() || self.sender.has_work()
    }

    /// Returns true if an ACK is to be sent now.
    pub fn owes_ack(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| receiver.ack() == AckDue::Now)
    }

    /// Notes that the SYN was sent, and that it is not known when: it counts as one that was sent
    /// again.
    pub fn syn_was_sent(&mut self, cx: &Context<'_, B>) {
        self.transmit_one(1, cx, &mut |_| {});
        self.sender.repeat_first();
        self.transmit_one(1, cx, &mut |_| {});
    }

    /// Hands a segment of up to `budget` parts to `sink`. Returns how many parts; 0 if there is
    /// nothing to be sent.
    fn transmit_one(
        &mut self,
        budget: usize,
        cx: &Context<'_, B>,
        sink: &mut impl FnMut(&Outgoing<'_, B>),
    ) -> usize {
        if self.state == State::Closed {
            return 0;
        }
        if self.poke == Poke::Due {
            self.poke = Poke::None;
            return self.send_empty(self.sender.una() - 1, cx, sink);
        }
        let ack_due = self.owes_ack();
        // SACK blocks have no room beside a full segment's data.
        let blocks = self.receiver.as_ref().is_some_and(|receiver| receiver.has_blocks());
        if ack_due && blocks && self.state.is_synchronized() {
            return self.send_empty(self.sender.next(), cx, sink);
        }
        match self.sender.plan(cx.now, cx.config, budget) {
            Some(plan) => self.send_planned(plan, cx, sink),
            None if ack_due && self.state.is_synchronized() => self.send_empty(self.sender.next(), cx, sink),
            None => 0,
        }
    }

    /// Returns a header with the ACK, the window and the timestamp.
    fn header(&mut self, seq: Seq, syn: bool, cx: &Context<'_, B>) -> Header {
        let mut header = header(self.local, self.remote, seq.wire());
        let clock = match &mut self.receiver {
            Some(receiver) => {
                header.ack_number = ack_number(receiver.next().wire());
                header.window_len = if syn { receiver.syn_window() } else { receiver.window(cx.config) };
                self.agreed.clock
            }
            None => {
                header.window_len = cx.config.initial_receive_window.min(0xffff) as u16;
                cx.config.timestamps.then_some(self.clock)
            }
        };
        if let Some(clock) = clock {
            let echo = self.receiver.as_ref().and_then(|receiver| receiver.recent()).unwrap_or(0);
            header.timestamp = timestamp(clock.at(cx.now), echo);
        }
        if syn {
            // The answer to a SYN offers what the SYN offered.
            let answers = self.receiver.is_some();
            let scaling = if answers { self.agreed.window_scaling } else { cx.config.window_scaling };
            header.control = TcpControl::Syn;
            header.max_seg_size = Some(cx.config.mss_for(self.remote.ip()));
            header.window_scale = scaling.then(|| cx.config.window_shift());
            header.sack_permitted = if answers { self.agreed.sack } else { cx.config.sack };
        }
        header
    }

    /// Sends an ACK without data. Returns 1, the number of its parts.
    fn send_empty(
        &mut self,
        seq: Seq,
        cx: &Context<'_, B>,
        sink: &mut impl FnMut(&Outgoing<'_, B>),
    ) -> usize {
        let mut header = self.header(seq, false, cx);
        if let Some(receiver) = self.receiver.as_mut().filter(|_| self.agreed.sack) {
            header.sack_ranges = receiver.blocks();
        }
        self.hand_over(header, (seq, seq), sink)
    }

    /// Sends a planned segment. Returns the number of its parts.
    fn send_planned(
        &mut self,
        plan: Plan,
        cx: &Context<'_, B>,
        sink: &mut impl FnMut(&Outgoing<'_, B>),
    ) -> usize {
        let (Plan::New { start, end } | Plan::Again { start, end }) = plan;
        let (syn, data, fin) = self.sender.content(start, end);
        let mut header = self.header(start, syn, cx);
        if fin {
            header.control = TcpControl::Fin;
        } else if !syn && data.1 == self.sender.queue.end() {
            header.control = TcpControl::Psh;
        }
        self.sender.sent(plan, cx.now);
        self.hand_over(header, data, sink)
    }

    /// Hands a segment to `sink`. Returns the number of its parts.
    fn hand_over(
        &mut self,
        header: Header,
        (start, end): (Seq, Seq),
        sink: &mut impl FnMut(&Outgoing<'_, B>),
    ) -> usize {
        if let Some(receiver) = &mut self.receiver {
            receiver.acknowledged();
        }
        let (payload_len, mss) = ((end - start) as usize, self.sender.part_len(start, end) as usize);
        sink(&Outgoing {
            local: self.local,
            remote: self.remote,
            header,
            payload: self.sender.queue.pieces(start, end),
            payload_len,
            mss,
        });
        if payload_len <= mss { 1 } else { payload_len.div_ceil(mss) }
    }
}
