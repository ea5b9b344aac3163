//! HyStart++ (RFC 9406): slow start ends when the round-trip time grows, and not only when a queue
//! overflows. It is for the first slow start of a connection. Times are microseconds.

use crate::mutation::{Mutation, is_on};
use crate::seq::Seq;

/// RFC 9406, 4.3: the least and the most that the round-trip time has to grow by, the share of it
/// between, the measurements of a round that are needed, and conservative slow start's divisor and
/// rounds.
const MIN_GROWTH: u64 = 4_000;
const MAX_GROWTH: u64 = 16_000;
const GROWTH_DIVISOR: u64 = 8;
const SAMPLES: u32 = 8;
const CONSERVATIVE_DIVISOR: u64 = 4;
const CONSERVATIVE_ROUNDS: u32 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The window doubles each round.
    Fast,
    /// The round-trip time has grown to `baseline`: the window grows by a quarter of that, to see
    /// whether this was no accident.
    Conservative { baseline: u64, rounds: u32 },
}

/// What the measurements of a round say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HyStart {
    phase: Phase,
    /// The round ends when this is acknowledged.
    round_end: Seq,
    /// The shortest round-trip time of this round and of the one before.
    current: Option<u64>,
    last: Option<u64>,
    samples: u32,
}

impl HyStart {
    /// Returns the state at the beginning of a connection.
    pub fn new(initial: Seq) -> HyStart {
        HyStart { phase: Phase::Fast, round_end: initial, current: None, last: None, samples: 0 }
    }

    /// Takes a measurement, with what is acknowledged and what was sent. Returns whether slow start
    /// is over.
    pub fn on_sample(&mut self, rtt: u64, una: Seq, next: Seq) -> bool {
        if is_on(Mutation::NoHyStart) {
            return false;
        }
        if una > self.round_end {
            (self.last, self.current, self.samples, self.round_end) = (self.current, None, 0, next);
            if let Phase::Conservative { rounds, .. } = &mut self.phase {
                *rounds += 1;
                if *rounds >= CONSERVATIVE_ROUNDS {
                    return true;
                }
            }
        }
        let current = self.current.map_or(rtt, |current| current.min(rtt));
        self.current = Some(current);
        self.samples += 1;
        if self.samples < SAMPLES {
            return false;
        }
        match (self.phase, self.last) {
            (Phase::Fast, Some(last)) => {
                let growth = (last / GROWTH_DIVISOR).clamp(MIN_GROWTH, MAX_GROWTH);
                if current >= last + growth {
                    self.phase = Phase::Conservative { baseline: current, rounds: 0 };
                }
            }
            (Phase::Conservative { baseline, .. }, _) if current < baseline => self.phase = Phase::Fast,
            _ => {}
        }
        false
    }

    /// Returns by how much the window grows for so many acknowledged bytes.
    pub fn growth(&self, bytes: u64) -> u64 {
        match self.phase {
            Phase::Fast => bytes,
            Phase::Conservative { .. } => bytes / CONSERVATIVE_DIVISOR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures `count` times in a round. Returns whether slow start ended.
    fn round(hystart: &mut HyStart, at: &mut Seq, rtt: u64, count: u32) -> bool {
        let (una, next) = (*at + 1, *at + 1_000_000);
        *at = next;
        (0..count).any(|_| hystart.on_sample(rtt, una, next))
    }

    #[test]
    fn slow_start_ends_five_rounds_after_the_round_trip_has_grown() {
        let mut at = Seq::initial(0);
        let mut hystart = HyStart::new(at);
        for rtt in [20_000, 20_000, 23_999] {
            assert!(!round(&mut hystart, &mut at, rtt, 20));
        }
        assert_eq!(hystart.growth(100), 100, "it has grown by less than 4 ms");
        assert!(!round(&mut hystart, &mut at, 27_999, 7));
        assert_eq!(hystart.growth(100), 100, "too few measurements");
        assert!(!round(&mut hystart, &mut at, 32_000, 20));
        assert_eq!(hystart.growth(100), 25);
        for _ in 0..4 {
            assert!(!round(&mut hystart, &mut at, 32_000, 20));
        }
        assert!(round(&mut hystart, &mut at, 32_000, 20));
    }

    #[test]
    fn an_accident_does_not_end_it() {
        let mut at = Seq::initial(0);
        let mut hystart = HyStart::new(at);
        for rtt in [20_000, 30_000, 20_000] {
            assert!(!round(&mut hystart, &mut at, rtt, 20));
        }
        assert_eq!(hystart.growth(100), 100);
    }
}
