//! A relay for the frames of one direction, against a real kernel: it loses some, and delays some so
//! that they come behind later ones.

use std::collections::BTreeMap;

use world::rng::Rng;

/// How late a frame may be, µs: long after the next hundred, and so that neither end takes it for lost
/// by a timeout alone.
const LATE: (u64, u64) = (1_000, 20_000);

/// A relay for one direction.
pub struct Relay {
    rng: Rng,
    lose: u64,
    delay: u64,
    lost: u64,
    /// The frames that are late, by the times at which they go on, and in the order in which they came.
    late: BTreeMap<(u64, u64), Vec<u8>>,
    count: u64,
}

impl Relay {
    /// Returns a relay that loses and delays so many of a thousand frames.
    pub fn new(seed: u64, lose: u64, delay: u64) -> Relay {
        Relay { rng: Rng::new(seed), lose, delay, lost: 0, late: BTreeMap::new(), count: 0 }
    }

    /// Takes a frame, and returns it if it goes on at once.
    pub fn take(&mut self, frame: Vec<u8>, now: u64) -> Option<Vec<u8>> {
        if self.rng.chance(self.lose) {
            self.lost += 1;
            return None;
        }
        if !self.rng.chance(self.delay) {
            return Some(frame);
        }
        self.count += 1;
        self.late.insert((now + self.rng.range(LATE.0, LATE.1), self.count), frame);
        None
    }

    /// Takes out the next late frame whose time has come.
    pub fn due(&mut self, now: u64) -> Option<Vec<u8>> {
        let entry = self.late.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// Returns when the next late frame goes on.
    pub fn deadline(&self) -> Option<u64> {
        self.late.first_key_value().map(|((at, _), _)| *at)
    }

    /// Returns how many frames were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_lost_goes_on_at_once_or_is_late() {
        let mut relay = Relay::new(1, 200, 300);
        let at_once = (0..1000).filter(|n| relay.take(vec![0; *n], *n as u64).is_some()).count() as u64;
        let deadline = relay.deadline().expect("some are late");
        assert!((LATE.0..1000 + LATE.1).contains(&deadline));
        assert_eq!(relay.due(deadline - 1), None);
        let late = std::iter::from_fn(|| relay.due(1000 + LATE.1)).count() as u64;
        assert!(relay.lost() > 100 && late > 200, "{} lost, {late} late", relay.lost());
        assert_eq!((at_once + late + relay.lost(), relay.deadline()), (1000, None));
    }
}
