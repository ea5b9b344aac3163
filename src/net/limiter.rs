//! At most so many a second: a bucket of tokens.

/// A bucket that holds the tokens of one second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limiter {
    rate: u64,
    /// Millionths of a token.
    tokens: u64,
    at: u64,
}

impl Limiter {
    /// Returns a full bucket for a rate per second.
    pub fn new(rate: u32, now: u64) -> Limiter {
        let rate = u64::from(rate);
        Limiter { rate, tokens: rate * 1_000_000, at: now }
    }

    /// Takes a token. Returns false if there is none.
    pub fn take(&mut self, now: u64) -> bool {
        let full = self.rate * 1_000_000;
        let gained = now.saturating_sub(self.at).min(1_000_000) * self.rate;
        self.tokens = (self.tokens + gained).min(full);
        self.at = now;
        let taken = self.tokens >= 1_000_000;
        self.tokens -= if taken { 1_000_000 } else { 0 };
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_a_second_at_once_and_then_the_rate() {
        let mut limiter = Limiter::new(10, 5);
        assert_eq!((0..100).filter(|_| limiter.take(5)).count(), 10);
        assert!(!limiter.take(100_004) && limiter.take(100_005));
        assert_eq!((0..100).filter(|n| limiter.take(200_005 + n * 100_000)).count(), 100);
        assert_eq!((0..100).filter(|_| limiter.take(1 << 40)).count(), 10);
        assert!(!Limiter::new(0, 0).take(1 << 40));
    }
}
