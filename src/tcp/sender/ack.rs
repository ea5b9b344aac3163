//! What an ACK says about what was sent.

use super::{Probe, Sender};
use crate::clock::is_older;
use crate::mutation::{Mutation, is_on};
use crate::recovery::{Prr, Recovery, Undo};
use crate::scoreboard::{Losses, Sent};
use crate::send_queue::Payload;
use crate::seq::Seq;

/// Repeated ACKs after which a segment is lost, for a peer without SACK (RFC 5681, 3.2).
const DUP_THRESHOLD: u32 = 3;

/// What a segment says to the sending half.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// Its own position.
    pub seq: Seq,
    pub ack: Seq,
    /// As written: not scaled if it is a SYN's.
    pub window: u16,
    pub syn: bool,
    /// Its SACK blocks.
    pub sack: [Option<(u32, u32)>; 3],
    /// The newest of our timestamps that the peer has seen.
    pub echo: Option<u32>,
    /// It carries data or a FIN, so it may be no more than the peer's data.
    pub carries: bool,
}

/// What one ACK has told of.
#[derive(Debug, Default)]
struct News {
    /// Bytes that are known to have arrived from now on.
    delivered: u64,
    /// The longest time that a segment sent only once took.
    rtt: Option<u64>,
}

impl<B: Payload> Sender<B> {
    /// Takes an ACK between SND.UNA and SND.NXT. Returns whether SND.UNA has advanced.
    pub fn on_ack(&mut self, heard: &Heard, now: u64) -> bool {
        let before = self.board.in_flight();
        let outstanding = self.next - self.una;
        let advanced = heard.ack > self.una;
        let window = u64::from(heard.window) << if heard.syn { 0 } else { self.shift };
        let window_changed = self.update_window(heard.seq, heard.ack, window);
        let duplicate = self.sack && self.take_duplicate(heard);
        let news = self.take_news(heard, now);
        if advanced {
            self.advance(heard.ack, now);
        }
        if let Some(rtt) = news.rtt {
            self.rtt.sample(now, rtt);
            if outstanding <= self.mss && advanced {
                self.rtt.lone_segment(now, rtt);
            }
            if self.cubic.is_initial() && self.hystart.on_sample(rtt, self.una, self.next) {
                self.cubic.end_slow_start();
            }
        }
        if !self.sack {
            self.count_duplicates(heard, advanced, window_changed);
        }
        self.check_probe(heard, duplicate);
        self.check_undo(heard, advanced);
        self.leave_recovery();
        self.detect_losses(outstanding, advanced, now);
        self.adjust_window(news.delivered, before, now);
        advanced
    }

    /// Takes what the ACK of a segment with data says that repeats the ACK before: only the window.
    pub fn on_repeated_ack(&mut self, seq: Seq, window: u16) {
        self.update_window(seq, self.una, u64::from(window) << self.shift);
    }

    /// Takes the peer's window, in bytes, if the segment is newer than the one that updated it last.
    /// Returns whether it is another one.
    fn update_window(&mut self, seq: Seq, ack: Seq, window: u64) -> bool {
        let edge = ack + window;
        let is_newer = ack > self.una || seq > self.updated_by;
        let changed = edge != self.edge && (is_newer || (seq == self.updated_by && edge > self.edge));
        if changed {
            self.edge = edge;
            self.max_window = self.max_window.max(edge.above(ack));
        }
        if is_newer {
            self.updated_by = seq;
        }
        changed
    }

    /// Takes the window of a SYN, which is not scaled.
    pub fn on_syn_window(&mut self, seq: Seq, window: u16) {
        self.updated_by = seq;
        self.edge = self.una + 1 + u64::from(window);
        self.max_window = u64::from(window);
    }

    /// Recognises a report of something received twice: the first block lies below the ACK, or
    /// within the second block (RFC 2883, 4).
    fn take_duplicate(&mut self, heard: &Heard) -> bool {
        let Some((start, end)) = heard.sack[0] else { return false };
        let (start, end) = (heard.ack.near(start), heard.ack.near(end));
        let within_second = heard.sack[1]
            .is_some_and(|(from, to)| heard.ack.near(from) <= start && end <= heard.ack.near(to));
        if start >= end || (start >= heard.ack && !within_second) {
            return false;
        }
        self.counters.duplicates += 1;
        if let Some(undo) = self.recovery.undo_mut() {
            undo.resent = undo.resent.saturating_sub(1);
            if undo.resent == 0 && !is_on(Mutation::NoUndo) {
                self.undo();
            }
        }
        self.rack.duplicate(self.una, self.next);
        true
    }

    /// Goes through the segments that the ACK and its blocks cover.
    fn take_news(&mut self, heard: &Heard, now: u64) -> News {
        let mut news = News::default();
        let min_rtt = self.rtt.min().unwrap_or(0);
        let (rack, clock) = (&mut self.rack, self.clock);
        let (path, mss) = (&mut self.path, &mut self.mss);
        let mut delivered = |sent: &Sent, in_order: bool| {
            news.delivered += sent.end - sent.start;
            if !sent.resent {
                news.rtt = news.rtt.max(Some(now.saturating_sub(sent.at)));
                *mss = path.arrived((sent.start, sent.end)).unwrap_or(*mss);
            }
            // Of what came out of order, the peer echoes no timestamp (RFC 7323, 4.3).
            let echo_is_older = match (heard.echo, clock) {
                (Some(echo), Some(clock)) => in_order && is_older(echo, clock.at(sent.at)),
                _ => false,
            };
            rack.delivered(sent, now, min_rtt, echo_is_older);
        };
        if heard.ack > self.una {
            self.board.ack(heard.ack, |sent| delivered(sent, true));
        }
        if self.sack && !is_on(Mutation::NoSackProcessing) {
            let una = self.una.max(heard.ack);
            for (start, end) in heard.sack.into_iter().flatten() {
                let block = (una.near(start), una.near(end));
                if una <= block.0 && block.0 < block.1 && block.1 <= self.next {
                    self.board.sack(block, |sent| delivered(sent, false));
                }
            }
        }
        news
    }

    fn advance(&mut self, ack: Seq, now: u64) {
        self.una = ack;
        self.path.acknowledged(ack, now);
        self.backoff = 0;
        (self.timer_from, self.probe_from, self.progress_at) = (now, now, now);
    }

    fn count_duplicates(&mut self, heard: &Heard, advanced: bool, window_changed: bool) {
        if advanced {
            // A partial ACK ends what the repeated ones have told of (RFC 6582).
            self.duplicate_acks = 0;
        } else if heard.ack == self.una && !heard.carries && !window_changed && !self.board.is_empty() {
            self.duplicate_acks = self.duplicate_acks.saturating_add(1);
        }
    }

    /// Finds out what the tail probe has shown (RFC 8985, 7.4).
    fn check_probe(&mut self, heard: &Heard, duplicate: bool) {
        let Probe::Sent { end, resent } = self.probe else { return };
        if heard.ack < end {
            return;
        }
        if resent && !duplicate {
            if heard.ack == end {
                // Of the probe or of what it repeats: the next ACK tells.
                return;
            }
            // The probe has repaired a loss, of which nothing else will tell.
            if matches!(self.recovery, Recovery::Open) {
                self.cubic.on_loss(self.next - self.una);
            }
        }
        self.probe = Probe::None;
    }

    /// Undoes a recovery if the ACK is for what was sent before it (RFC 3522).
    fn check_undo(&mut self, heard: &Heard, advanced: bool) {
        let Some(undo) = self.recovery.undo_mut() else { return };
        if let (true, Some(resent_at), Some(echo)) = (advanced, undo.resent_at, heard.echo)
            && is_older(echo, resent_at)
            && !is_on(Mutation::NoUndo)
        {
            self.undo();
        }
    }

    fn undo(&mut self) {
        if let Some(undo) = self.recovery.undo_mut() {
            self.cubic = undo.cubic;
            self.recovery = Recovery::Open;
            self.backoff = 0;
            self.board.spare_lost();
            self.counters.undone += 1;
        }
    }

    fn leave_recovery(&mut self) {
        match self.recovery {
            Recovery::Fast { end, .. } if self.una >= end => {
                self.cubic.on_recovered();
                self.rack.recovered();
                self.recovery = Recovery::Open;
            }
            Recovery::Timeout { end, .. } if self.una >= end => self.recovery = Recovery::Open,
            _ => {}
        }
    }

    /// Looks for losses, and begins a fast recovery if there are any. `outstanding`: bytes between
    /// SND.UNA and SND.NXT before.
    pub(super) fn detect_losses(&mut self, outstanding: u64, advanced: bool, now: u64) {
        let losses = if self.sack {
            let recovering = !matches!(self.recovery, Recovery::Open);
            let rule = self.rack.rule(&self.rtt, recovering, self.board.sacked_segments());
            self.board.detect(now, rule)
        } else {
            Losses { bytes: self.lost_without_sack(advanced), next_at: None }
        };
        self.reordering_at = losses.next_at.filter(|_| !is_on(Mutation::NoReorderingTimer));
        if losses.bytes > 0 && matches!(self.recovery, Recovery::Open) {
            self.counters.recoveries += 1;
            let undo = Undo::new(self.cubic);
            self.cubic.on_loss(outstanding);
            self.probe = Probe::None;
            self.recovery = Recovery::Fast { end: self.next, prr: Prr::new(outstanding), undo };
        }
    }

    /// Returns the bytes that count as lost with a peer that sends no SACK blocks (RFC 5681, RFC
    /// 6582).
    fn lost_without_sack(&mut self, advanced: bool) -> u64 {
        match self.recovery {
            Recovery::Open if self.duplicate_acks >= DUP_THRESHOLD => self.board.lose_first(self.mss),
            Recovery::Fast { .. } if advanced => self.board.lose_first(self.mss),
            _ => 0,
        }
    }

    /// Adjusts the congestion window. `before`: bytes in flight before the ACK.
    fn adjust_window(&mut self, delivered: u64, before: u64, now: u64) {
        let pipe = self.pipe();
        match &mut self.recovery {
            Recovery::Fast { prr, .. } => {
                // Without SACK, a repeated ACK stands for one segment.
                let delivered = if self.sack { delivered } else { delivered.max(self.mss) };
                prr.on_ack(delivered, pipe, self.cubic.slow_start_threshold(), self.mss);
            }
            Recovery::Open | Recovery::Timeout { .. } => {
                let window = self.cubic.window();
                let slow_start = window < self.cubic.slow_start_threshold();
                let is_initial = self.cubic.is_initial();
                let growth = if is_initial { self.hystart.growth(delivered) } else { delivered };
                // A window that is not in use says nothing about the path (RFC 9438, 5.8).
                if delivered > 0 && (self.limited || (slow_start && 2 * before >= window)) {
                    self.cubic.on_ack(now, growth, self.rtt.smoothed().unwrap_or(0));
                }
            }
        }
    }
}
