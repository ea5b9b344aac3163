//! What a connection does about losses: nothing, fast recovery (RFC 6675, with the proportional
//! rate reduction of RFC 6937), or recovery after a timeout; and what it takes to undo either.

use crate::cubic::Cubic;
use crate::mutation::{Mutation, is_on};
use crate::seq::Seq;

/// What is needed to undo a reduction that turns out to be unfounded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Undo {
    /// The congestion window before.
    pub cubic: Cubic,
    /// Our clock, as timestamps tell it, when the first segment was sent again (RFC 3522).
    pub resent_at: Option<u32>,
    /// Segments sent again that the peer has not reported as duplicates.
    pub resent: u32,
}

impl Undo {
    pub fn new(cubic: Cubic) -> Undo {
        Undo { cubic, resent_at: None, resent: 0 }
    }
}

/// The proportional rate reduction: what is sent in relation to what is delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prr {
    flight: u64,
    delivered: u64,
    sent: u64,
    /// What may be in flight.
    window: u64,
}

impl Prr {
    /// Begins with so many bytes between SND.UNA and SND.NXT.
    pub fn new(flight: u64) -> Prr {
        Prr { flight: flight.max(1), delivered: 0, sent: 0, window: 0 }
    }

    /// Takes an ACK that says that so many bytes arrived.
    pub fn on_ack(&mut self, delivered: u64, in_flight: u64, threshold: u64, mss: u64) {
        self.delivered += delivered;
        let more = if in_flight > threshold {
            (self.delivered * threshold).div_ceil(self.flight).saturating_sub(self.sent)
        } else {
            let limit = self.delivered.saturating_sub(self.sent).max(delivered) + mss;
            (threshold - in_flight).min(limit)
        };
        // The first ACK of a recovery always sends a segment again.
        let more = if self.sent == 0 { more.max(mss) } else { more };
        self.window = in_flight + more;
        if is_on(Mutation::NoPrr) {
            self.window = in_flight.max(mss);
        }
    }

    /// Takes bytes sent.
    pub fn on_sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }
}

/// What a connection does about losses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Recovery {
    /// Nothing is known to be lost.
    Open,
    /// Lost segments are sent again. It ends when `end` is acknowledged.
    Fast { end: Seq, prr: Prr, undo: Undo },
    /// The retransmission timer has expired.
    Timeout { end: Seq, undo: Undo },
}

impl Recovery {
    /// Returns what may be in flight.
    pub fn window(&self, cubic: &Cubic) -> u64 {
        match self {
            Recovery::Fast { prr, .. } => prr.window,
            Recovery::Open | Recovery::Timeout { .. } => cubic.window(),
        }
    }

    pub fn undo_mut(&mut self) -> Option<&mut Undo> {
        match self {
            Recovery::Open => None,
            Recovery::Fast { undo, .. } | Recovery::Timeout { undo, .. } => Some(undo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6937, 4, Figure 1's situation: 20 segments, one lost. Afterwards half of them are in
    /// flight.
    #[test]
    fn the_window_is_reduced_in_step_with_what_arrives() {
        let (mss, threshold) = (1, 10);
        let mut prr = Prr::new(20);
        let (mut in_flight, mut sent) = (19, 0);
        for _ in 0..19 {
            in_flight -= 1;
            prr.on_ack(1, in_flight, threshold, mss);
            while in_flight < prr.window {
                in_flight += 1;
                sent += 1;
                prr.on_sent(1);
            }
        }
        assert_eq!(sent, 10);
        assert_eq!(in_flight, 10);
    }
}
