//! When the sending half has to act if nothing is heard, and what it does then.

use super::{Probe, Sender};
use crate::config::Config;
use crate::mutation::{Mutation, is_on};
use crate::recovery::{Recovery, Undo};
use crate::send_queue::Payload;

/// What will happen, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alarm {
    Off,
    /// RFC 6298.
    Retransmit(u64),
    /// RFC 8985, 7.
    TailProbe(u64),
    /// RFC 8985, 6.2: the tolerance for reordering has passed.
    Reordering(u64),
    /// RFC 9293, 3.8.6.1.
    WindowProbe(u64),
}

impl Alarm {
    pub fn at(self) -> Option<u64> {
        match self {
            Alarm::Off => None,
            Alarm::Retransmit(at) | Alarm::TailProbe(at) | Alarm::Reordering(at) | Alarm::WindowProbe(at) => {
                Some(at)
            }
        }
    }
}

/// What the connection has to do for an alarm, beside sending what is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send a segment that makes the peer tell its window.
    WindowProbe,
}

/// Assumed for the tail probe before the first measurement (RFC 8985, 7.2).
const PROBE_WITHOUT_RTT: u64 = 1_000_000;

impl<B: Payload> Sender<B> {
    /// Returns what happens next if nothing is heard.
    pub fn alarm(&self, config: &Config) -> Alarm {
        let timeout = || self.timer_from + self.rtt.rto(config, self.backoff);
        if let Some(at) = self.reordering_at {
            return Alarm::Reordering(at);
        }
        if self.board.is_empty() {
            return if self.is_window_closed() && !is_on(Mutation::NoWindowProbe) {
                Alarm::WindowProbe(timeout())
            } else {
                Alarm::Off
            };
        }
        if self.may_probe() {
            return Alarm::TailProbe(timeout().min(self.probe_from + self.probe_timeout(config)));
        }
        if is_on(Mutation::NoTimeout) { Alarm::Off } else { Alarm::Retransmit(timeout()) }
    }

    /// Sends the SYN again, which the peer has not seen or not seen answered.
    pub fn repeat_first(&mut self) {
        self.board.lose_first(u64::MAX);
    }

    fn may_probe(&self) -> bool {
        self.sack
            && self.una > self.initial
            && self.probe == Probe::None
            && self.backoff == 0
            && self.board.sacked_segments() == 0
            && matches!(self.recovery, Recovery::Open)
            && !is_on(Mutation::NoTailProbe)
    }

    /// Returns how long to wait for an ACK before the tail is sent again.
    fn probe_timeout(&self, config: &Config) -> u64 {
        let Some(smoothed) = self.rtt.smoothed() else { return PROBE_WITHOUT_RTT };
        // The peer need not acknowledge less than two segments at once.
        let delay = if self.next - self.una <= self.mss { self.rtt.peer_delay(config) } else { 0 };
        2 * smoothed + delay.max(config.probe_margin)
    }

    /// Does what is due.
    pub fn on_alarm(&mut self, now: u64, config: &Config) -> Due {
        match self.alarm(config) {
            Alarm::Retransmit(at) if at <= now => self.on_timeout(now),
            Alarm::TailProbe(at) if at <= now => {
                // A probe that is due when the timeout is takes its place (RFC 8985, 7.2).
                (self.probe, self.timer_from) = (Probe::Due, now);
            }
            Alarm::Reordering(at) if at <= now => {
                self.detect_losses(self.next - self.una, false, now);
                let (pipe, threshold) = (self.pipe(), self.cubic.slow_start_threshold());
                if let Recovery::Fast { prr, .. } = &mut self.recovery {
                    prr.on_ack(0, pipe, threshold, self.mss);
                }
            }
            Alarm::WindowProbe(at) if at <= now => {
                self.backoff += 1;
                self.timer_from = now;
                self.counters.window_probes += 1;
                return Due::WindowProbe;
            }
            _ => {}
        }
        Due::Nothing
    }

    fn on_timeout(&mut self, now: u64) {
        self.backoff += 1;
        self.timer_from = now;
        self.probe = Probe::None;
        self.counters.timeouts += 1;
        if self.una == self.initial {
            // A lost SYN says little about the path.
            self.board.lose_first(u64::MAX);
            return;
        }
        if self.board.is_first_sacked() && !is_on(Mutation::NoReneging) {
            self.counters.reneged += 1;
            self.board.forget_sacks();
        }
        self.mss = self.path.on_timeout(self.backoff, self.board.first_len(), self.mss, now);
        let undo = match self.recovery {
            Recovery::Open => {
                let undo = Undo::new(self.cubic);
                self.cubic.on_loss(self.next - self.una);
                undo
            }
            // Reduced already.
            Recovery::Fast { undo, .. } | Recovery::Timeout { undo, .. } => undo,
        };
        self.cubic.on_timeout();
        self.recovery = Recovery::Timeout { end: self.next, undo };
        // RFC 8985, 6.3: what was sent within the last round trip may still arrive.
        let fresh = if self.sack { self.rtt.smoothed().unwrap_or(0) } else { 0 };
        self.board.lose_if(|sent| sent.at + fresh <= now);
        self.board.lose_first(u64::MAX);
        self.duplicate_acks = 0;
        self.reordering_at = None;
    }
}
