//! Detection of a silent peer.

/// Tracks when the peer of one connection last showed a sign of life.
///
/// The client provokes signs of life each time it renews its [lease](crate::lease::Held).
#[derive(Debug, Clone)]
pub struct Silence {
    timeout_us: u64,
    heard_us: u64,
}

impl Silence {
    /// Starts tracking. Silence of `timeout_ms` is too long.
    pub fn new(timeout_ms: u32, now_us: u64) -> Silence {
        Silence { timeout_us: u64::from(timeout_ms) * 1000, heard_us: now_us }
    }

    /// Records a sign of life.
    pub fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
    }

    /// Returns how long a silence is too long, µs.
    pub fn timeout_us(&self) -> u64 {
        self.timeout_us
    }

    /// Returns the time of the last sign of life, µs.
    pub fn heard_us(&self) -> u64 {
        self.heard_us
    }

    /// Returns whether the connection is to be given up.
    pub fn is_too_long(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.heard_us) >= self.timeout_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_from_the_time_out_on_and_not_before() {
        let mut silence = Silence::new(3, 1000);
        assert!(!silence.is_too_long(3999) && silence.is_too_long(4000));
        silence.heard(3999);
        assert!(!silence.is_too_long(6998) && silence.is_too_long(6999));
        assert!(!silence.is_too_long(0), "a clock that was read before");
    }
}
