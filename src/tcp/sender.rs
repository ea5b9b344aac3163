//! The sending half of a connection: what to send next, and when to act if nothing is heard.

mod ack;
mod alarm;
mod path;

use crate::clock::Clock;
use crate::config::Config;
use crate::cubic::Cubic;
use crate::hystart::HyStart;
use crate::mutation::{Mutation, is_on};
use crate::rack::Rack;
use crate::recovery::Recovery;
use crate::rtt::Rtt;
use crate::scoreboard::{MAX_SEGMENTS, Scoreboard};
use crate::send_queue::{Payload, SendQueue};
use crate::seq::Seq;

pub(crate) use ack::Heard;
pub(crate) use alarm::Due;
use path::Path;

/// The shortest pause, µs, after which the congestion window is no longer trusted. RFC 5681, 4.1,
/// has the RTO, which may be some milliseconds here: less than a storage client's usual pauses.
const IDLE: u64 = 1_000_000;

/// The bytes that the timestamp option takes of each segment, with padding.
pub(crate) const TIMESTAMP_BYTES: u64 = 12;

/// A tail loss probe (RFC 8985, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    /// To be sent now.
    Due,
    /// Sent. `end` is the position after everything sent by then; `resent`: the probe was old data.
    Sent {
        end: Seq,
        resent: bool,
    },
}

/// What can be counted about sending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Segments sent again, probes among them.
    pub retransmitted: u64,
    /// Tail loss probes.
    pub tail_probes: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Fast recoveries.
    pub recoveries: u64,
    /// Recoveries that turned out to be unfounded and were undone.
    pub undone: u64,
    /// Segments that the peer reported to have received twice.
    pub duplicates: u64,
    /// Times that the peer dropped data which it had selectively acknowledged.
    pub reneged: u64,
    /// Probes of a closed window.
    pub window_probes: u64,
}

impl SendCounters {
    /// Adds the counts of another connection.
    pub fn add(&mut self, more: &SendCounters) {
        // Without `..`, so that a forgotten counter does not compile.
        let SendCounters {
            retransmitted,
            tail_probes,
            timeouts,
            recoveries,
            undone,
            duplicates,
            reneged,
            window_probes,
        } = more;
        self.retransmitted += retransmitted;
        self.tail_probes += tail_probes;
        self.timeouts += timeouts;
        self.recoveries += recoveries;
        self.undone += undone;
        self.duplicates += duplicates;
        self.reneged += reneged;
        self.window_probes += window_probes;
    }
}

/// The next segment to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    New { start: Seq, end: Seq },
    Again { start: Seq, end: Seq },
}

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) struct Sender<B> {
    /// The data that the user has queued.
    pub queue: SendQueue<B>,
    pub counters: SendCounters,
    pub rtt: Rtt,
    board: Scoreboard,
    initial: Seq,
    una: Seq,
    next: Seq,
    /// The position after the peer's window. SND.WND would be wrong after an ACK that does not
    /// update it.
    edge: Seq,
    max_window: u64,
    /// SND.WL1: the position of the segment that last updated the window.
    updated_by: Seq,
    /// The number of bits by which the peer's window is shifted.
    shift: u8,
    mss: u64,
    path: Path,
    /// Whether the user has closed: a FIN follows the last byte.
    closing: bool,
    /// Whether the peer sends SACK blocks.
    sack: bool,
    clock: Option<Clock>,
    rack: Rack,
    cubic: Cubic,
    hystart: HyStart,
    recovery: Recovery,
    /// The number of successive timeouts or window probes.
    backoff: u32,
    /// The number of successive ACKs that repeat the one before; only counted without SACK.
    duplicate_acks: u32,
    probe: Probe,
    /// The time at which RACK will count segments as lost, if nothing more is heard.
    reordering_at: Option<u64>,
    /// The time from which the retransmission timer counts.
    timer_from: u64,
    /// The time from which the tail probe's timer counts.
    probe_from: u64,
    /// The time of the last acknowledgement, or at which the first segment in flight was sent.
    progress_at: u64,
    /// The time at which data was last sent.
    sent_at: u64,
    /// Whether the congestion window, and not the data or the peer, ended the last transmission.
    limited: bool,
}

impl<B: Payload> Sender<B> {
    /// Returns the sending half of a connection with this initial sequence number.
    pub fn new(initial: Seq, config: &Config, now: u64) -> Sender<B> {
        let mss = u64::from(config.mss);
        Sender {
            queue: SendQueue::new(initial + 1),
            counters: SendCounters::default(),
            rtt: Rtt::new(),
            board: Scoreboard::new(initial),
            initial,
            una: initial,
            next: initial,
            edge: initial + 1,
            max_window: 0,
            updated_by: Seq::initial(0),
            shift: 0,
            mss,
            path: Path::Full,
            closing: false,
            sack: false,
            clock: None,
            rack: Rack::new(initial),
            cubic: Cubic::new(mss),
            hystart: HyStart::new(initial),
            recovery: Recovery::Open,
            backoff: 0,
            duplicate_acks: 0,
            probe: Probe::None,
            reordering_at: None,
            timer_from: now,
            probe_from: now,
            progress_at: now,
            sent_at: now,
            limited: false,
        }
    }

    /// Takes what the peer's SYN says.
    pub fn negotiated(&mut self, mss: u64, shift: u8, sack: bool, clock: Option<Clock>) {
        (self.shift, self.sack, self.clock) = (shift, sack, clock);
        self.mss = mss;
        self.cubic = Cubic::new(mss);
    }

    pub fn una(&self) -> Seq {
        self.una
    }

    pub fn next(&self) -> Seq {
        self.next
    }

    pub fn initial(&self) -> Seq {
        self.initial
    }

    /// Returns the congestion window in bytes.
    pub fn congestion_window(&self) -> u64 {
        self.recovery.window(&self.cubic)
    }

    /// Returns the largest window that the peer has offered.
    pub fn max_window(&self) -> u64 {
        self.max_window
    }

    /// Returns the peer's window in bytes.
    pub fn peer_window(&self) -> u64 {
        self.edge.above(self.una)
    }

    /// Returns the bytes that the user wants sent and that were not sent yet.
    pub fn unsent(&self) -> u64 {
        self.queue.end().above(self.next)
    }

    /// Returns true if nothing is known to be lost.
    pub fn is_recovered(&self) -> bool {
        matches!(self.recovery, Recovery::Open)
    }

    /// Returns whether everything sent was acknowledged.
    pub fn is_idle(&self) -> bool {
        self.board.is_empty()
    }

    /// Returns true if everything that the user wants sent was sent and acknowledged.
    pub fn has_nothing(&self) -> bool {
        self.board.is_empty() && self.end() == self.next
    }

    /// Returns whether the peer has acknowledged our FIN.
    pub fn is_fin_acked(&self) -> bool {
        self.closing && self.una > self.queue.end()
    }

    /// Returns the time of the last progress, if data in flight or a closed window is waited for.
    pub fn stalled_since(&self) -> Option<u64> {
        (!self.board.is_empty() || self.is_window_closed()).then_some(self.progress_at)
    }

    /// Sends a FIN behind the data that is queued.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Returns whether the user has closed.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Returns the position after all queued data, including a FIN.
    fn end(&self) -> Seq {
        self.queue.end() + u64::from(self.closing)
    }

    fn right_edge(&self) -> Seq {
        if is_on(Mutation::NoPeerWindow) { self.una + (1 << 30) } else { self.edge }
    }

    /// Returns whether data waits only for the peer's window.
    pub fn is_window_closed(&self) -> bool {
        self.board.is_empty()
            && self.una > self.initial
            && self.end() > self.next
            && self.right_edge() <= self.next
    }

    /// Returns the length of the longest segment that may be sent, which is cut into at most `parts`
    /// parts.
    fn max_segment(&self, config: &Config, parts: usize) -> u64 {
        // Not more than half of the window at once, so that ACKs keep coming.
        let offload = u64::from(config.offload_bytes).min(self.congestion_window() / 2);
        (offload / self.mss).min(parts as u64).max(1) * self.mss
    }

    /// Returns the length that the parts of a segment have, if it has to be cut.
    pub fn part_len(&self, start: Seq, end: Seq) -> u64 {
        self.path.trial((start, end)).unwrap_or(self.mss)
    }

    /// Returns the number of bytes that are presumably in flight.
    fn pipe(&self) -> u64 {
        if self.sack {
            return self.board.in_flight();
        }
        // Each repeated ACK says that a segment has left the network.
        self.board.in_flight().saturating_sub(u64::from(self.duplicate_acks) * self.mss)
    }

    /// Returns false if [`Sender::plan`] would find nothing to be sent.
    pub fn has_work(&self) -> bool {
        self.end() > self.next
            || self.board.has_lost()
            || self.probe == Probe::Due
            || self.next == self.initial
    }

    /// Returns the next segment to be sent, of at most `parts` parts, if one may be sent now.
    /// [`Sender::sent`] has to follow.
    pub fn plan(&mut self, now: u64, config: &Config, parts: usize) -> Option<Plan> {
        let longest = self.max_segment(config, parts);
        if self.next == self.initial {
            return Some(Plan::New { start: self.initial, end: self.initial + 1 });
        }
        if let Some((start, end)) = self.board.next_lost() {
            return self.plan_lost(start, end, longest);
        }
        if self.una == self.initial {
            return None;
        }
        if self.probe == Probe::Due {
            return self.plan_probe();
        }
        let room = self.congestion_window().saturating_sub(self.pipe());
        // Limited transmit (RFC 3042). With SACK, what has arrived is not in the pipe.
        let allowed = match self.recovery {
            Recovery::Open if !self.sack => self.congestion_window() + 2 * self.mss,
            _ => u64::MAX,
        };
        let room = room.min(allowed.saturating_sub(self.board.in_flight()));
        self.plan_new(now, longest, room)
    }

    fn plan_lost(&mut self, start: Seq, end: Seq, longest: u64) -> Option<Plan> {
        let length = (end - start).min(longest);
        let pipe = self.pipe();
        if pipe > 0 && pipe + length.min(self.mss) > self.congestion_window() {
            self.limited = true;
            return None;
        }
        self.limited = false;
        // No more than the window has room for, as new data.
        let room = self.congestion_window().saturating_sub(pipe);
        let mut length = length.min((room / self.mss * self.mss).max(self.mss));
        // What was lost because of its size is sent again in parts.
        if self.path.trial((start, start + length)).is_some() {
            length = length.min(self.mss);
        }
        Some(Plan::Again { start, end: start + length })
    }

    fn plan_probe(&mut self) -> Option<Plan> {
        if self.board.segments() < MAX_SEGMENTS
            && let Some(Plan::New { start, end }) = self.plan_new(self.sent_at, self.mss, u64::MAX)
        {
            return Some(Plan::New { start, end });
        }
        match self.board.last_in_flight() {
            Some((start, end)) => {
                let start = if end - start > self.mss { end - self.mss } else { start };
                Some(Plan::Again { start, end })
            }
            None => {
                self.probe = Probe::None;
                None
            }
        }
    }

    fn plan_new(&mut self, now: u64, max_segment: u64, room: u64) -> Option<Plan> {
        let waiting = self.end().above(self.next);
        let open = self.right_edge().above(self.next);
        self.limited = false;
        if waiting == 0 || open == 0 || self.board.segments() >= MAX_SEGMENTS {
            return None;
        }
        let alone = self.board.is_empty();
        if alone && now.saturating_sub(self.sent_at) > IDLE.max(self.rtt.smoothed().unwrap_or(0)) {
            self.cubic.on_idle();
            self.sent_at = now;
        }
        let data = self.queue.end().above(self.next);
        if let Some(full) = self.path.try_full(now)
            && full <= data.min(open).min(room)
        {
            self.path.tried((self.next, self.next + full));
            return Some(Plan::New { start: self.next, end: self.next + full });
        }
        let mut length = data.min(max_segment).min(open);
        // The peer's window would make small segments of large ones (RFC 9293, 3.8.6.2.1).
        if length < data && length < self.mss && !alone && length < self.max_window / 2 {
            return None;
        }
        if length < data && length > self.mss {
            length -= length % self.mss;
        }
        if length > room && !alone {
            if length.min(self.mss) > room {
                self.limited = true;
                return None;
            }
            length = room / self.mss * self.mss;
        }
        // The FIN goes with the last byte.
        let end = self.next + length;
        let fin = u64::from(self.closing && length == data && open > length);
        Some(Plan::New { start: self.next, end: end + fin }).filter(|_| length + fin > 0)
    }

    /// Notes that a planned segment was sent.
    pub fn sent(&mut self, plan: Plan, now: u64) {
        let bytes = match plan {
            Plan::New { start, end } => {
                if self.board.is_empty() {
                    (self.timer_from, self.progress_at, self.backoff) = (now, now, 0);
                }
                self.board.sent(start, end, now);
                self.next = end;
                (self.sent_at, self.probe_from) = (now, now);
                end - start
            }
            Plan::Again { start, end } => {
                self.board.resent(start, end, now);
                self.counters.retransmitted += 1;
                (self.timer_from, self.probe_from) = (now, now);
                if let Some(undo) = self.recovery.undo_mut() {
                    undo.resent += 1;
                    if let (None, Some(clock)) = (undo.resent_at, self.clock) {
                        undo.resent_at = Some(clock.at(now));
                    }
                }
                end - start
            }
        };
        if let Recovery::Fast { prr, .. } = &mut self.recovery {
            prr.on_sent(bytes);
        }
        if self.probe == Probe::Due {
            self.counters.tail_probes += 1;
            self.timer_from = now;
            self.probe = Probe::Sent { end: self.next, resent: matches!(plan, Plan::Again { .. }) };
        }
        #[cfg(debug_assertions)]
        if self.board.segments() < 50 {
            self.board.check();
        }
    }

    /// Takes a router's word that a segment at `seq` was too long, and that segments may have at
    /// most `most` bytes of data and options. The router is believed only if the segment is in
    /// flight (RFC 5927, 4.1).
    pub fn on_too_big(&mut self, seq: u32, most: u64, now: u64) {
        let seq = self.una.near(seq);
        if seq < self.una || seq >= self.next {
            return;
        }
        let options = if self.clock.is_some() { TIMESTAMP_BYTES } else { 0 };
        let mss = self.path.on_too_big(most.saturating_sub(options), self.mss, now);
        if mss < self.mss {
            self.mss = mss;
            // Longer segments are lost, and not by congestion.
            self.board.lose_if(|sent| sent.end - sent.start > mss);
        }
    }

    /// Returns what a segment from `start` to `end` is: whether it has the SYN, its data, and
    /// whether it has the FIN.
    pub fn content(&self, start: Seq, end: Seq) -> (bool, (Seq, Seq), bool) {
        let syn = start == self.initial;
        let fin = end > self.queue.end();
        (syn, (start + u64::from(syn), end - u64::from(fin && end > start)), fin)
    }
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
