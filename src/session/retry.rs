//! When a client tries again.

/// The times of a client's attempts to reach its target, from the moment it lost it.
#[derive(Debug, Clone)]
pub struct Retry {
    delay_us: u64,
    give_up_us: Option<u64>,
    attempts: u32,
    next_us: u64,
}

impl Retry {
    /// Tries at once, then every `delay_ms`, until `give_up_ms` from now (none: for ever).
    pub fn new(delay_ms: u32, give_up_ms: Option<u32>, now_us: u64) -> Retry {
        Retry {
            delay_us: u64::from(delay_ms) * 1000,
            give_up_us: give_up_ms.map(|ms| now_us.saturating_add(u64::from(ms) * 1000)),
            attempts: 0,
            next_us: now_us,
        }
    }

    /// Whether an attempt is due; if so it counts as begun.
    pub fn begin(&mut self, now_us: u64) -> bool {
        if now_us < self.next_us || self.is_over(now_us) {
            return false;
        }
        self.attempts += 1;
        self.next_us = u64::MAX;
        true
    }

    /// The attempt failed: the next one is due after the delay.
    pub fn failed(&mut self, now_us: u64) {
        self.next_us = now_us.saturating_add(self.delay_us);
    }

    /// Whether the time is used up.
    pub fn is_over(&self, now_us: u64) -> bool {
        self.give_up_us.is_some_and(|at| now_us >= at)
    }

    /// Attempts begun so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_at_once_then_after_each_delay_until_the_time_is_up() {
        let mut retry = Retry::new(2, Some(5), 0);
        assert!(retry.begin(0));
        assert!(!retry.begin(4000), "one attempt at a time");
        retry.failed(1000);
        assert!(!retry.begin(2999));
        assert!(retry.begin(3000));
        retry.failed(3000);
        assert!(retry.is_over(5000));
        assert!(!retry.begin(5000));
        assert_eq!(retry.attempts(), 2);
    }
}
