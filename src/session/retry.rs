//! The times at which a client tries to reconnect.

/// The first delay is the longest divided by this. A target that was gone for a moment is reached
/// again soon, and a network that a thousand clients lost at once is not flooded with attempts.
const FIRST_PART: u64 = 8;

/// The schedule of a client's attempts to reach its target, from the moment at which it lost the
/// connection.
///
/// The first attempt is immediate. Each delay is twice the previous one, up to the longest, and
/// varies at random by up to a quarter, so that clients that lost a target together do not return
/// together.
#[derive(Debug, Clone)]
pub struct Retry {
    longest_us: u64,
    delay_us: u64,
    next_us: u64,
    random: u64,
}

impl Retry {
    /// Creates a schedule whose first attempt is due at once, with delays of up to `longest_ms`
    /// afterwards. `seed` seeds the random variation.
    pub fn new(longest_ms: u32, seed: u64, now_us: u64) -> Retry {
        let longest_us = u64::from(longest_ms) * 1000;
        Retry { longest_us, delay_us: longest_us / FIRST_PART, next_us: now_us, random: seed | 1 }
    }

    /// Starts again: the next attempt is due at once.
    pub fn restart(&mut self, now_us: u64) {
        self.delay_us = self.longest_us / FIRST_PART;
        self.next_us = now_us;
    }

    /// Returns whether an attempt is due. If so, it counts as begun.
    pub fn begin(&mut self, now_us: u64) -> bool {
        if now_us < self.next_us {
            return false;
        }
        self.next_us = u64::MAX;
        true
    }

    /// Records that the attempt failed. The next one is due after the delay.
    pub fn failed(&mut self, now_us: u64) {
        let delay_us = self.delay_us * 3 / 4 + self.chance(self.delay_us / 2 + 1);
        self.next_us = now_us.saturating_add(delay_us);
        self.delay_us = (self.delay_us * 2).min(self.longest_us);
    }

    /// Records that the attempt failed while another address has not been tried. The next attempt
    /// is due at once.
    pub fn failed_here(&mut self, now_us: u64) {
        self.next_us = now_us;
    }

    /// Returns a random number below `limit`. Marsaglia's xorshift64 (2003) is random enough to
    /// spread attempts.
    fn chance(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_longest_and_are_spread() {
        let mut retry = Retry::new(800, 7, 0);
        assert!(retry.begin(0));
        assert!(!retry.begin(u64::MAX - 1), "one attempt at a time");
        for (attempt, delay_us) in [100_000, 200_000, 400_000, 800_000, 800_000].into_iter().enumerate() {
            let now = attempt as u64 * 10_000_000;
            retry.failed(now);
            assert!(!retry.begin(now + delay_us * 3 / 4 - 1));
            assert!(retry.begin(now + delay_us * 5 / 4));
        }
        retry.restart(99);
        assert!(!retry.begin(98) && retry.begin(99));
        let first = |seed| {
            let mut retry = Retry::new(800, seed, 0);
            retry.failed(0);
            (0..).find(|&now| retry.clone().begin(now)).unwrap()
        };
        assert_ne!(first(1), first(2));
    }
}
