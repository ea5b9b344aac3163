//! Round-trip times, and the timeouts that follow from them (RFC 6298).

use crate::config::Config;

/// How long a smallest or largest value is remembered: between this and twice as long. Ten seconds,
/// as BBR and Linux remember the smallest round trip for.
const MEMORY: u64 = 10_000_000;

/// The largest of the values of the last 10 to 20 seconds.
#[derive(Debug, Clone, Copy, Default)]
struct RecentMax {
    since: u64,
    current: u64,
    previous: u64,
}

impl RecentMax {
    fn add(&mut self, now: u64, value: u64) {
        if now.saturating_sub(self.since) >= MEMORY {
            self.previous = self.current;
            self.current = 0;
            self.since = now;
        }
        self.current = self.current.max(value);
    }

    fn get(&self) -> u64 {
        self.current.max(self.previous)
    }
}

/// What is known about the path's round-trip time. Times are microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Rtt {
    measured: Option<Measured>,
    /// The smallest, as the largest of the complements.
    min: RecentMax,
    peer_delay: RecentMax,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    smoothed: u64,
    variation: u64,
}

impl Rtt {
    pub const fn new() -> Rtt {
        let none = RecentMax { since: 0, current: 0, previous: 0 };
        Rtt { measured: None, min: none, peer_delay: none }
    }

    /// Takes a measurement of a segment that was sent once only (Karn's rule).
    pub fn sample(&mut self, now: u64, rtt: u64) {
        let rtt = rtt.max(1);
        self.min.add(now, u64::MAX - rtt);
        self.measured = Some(match self.measured {
            None => Measured { smoothed: rtt, variation: rtt / 2 },
            Some(Measured { smoothed, variation }) => Measured {
                variation: (3 * variation + smoothed.abs_diff(rtt)) / 4,
                smoothed: (7 * smoothed + rtt) / 8,
            },
        });
    }

    /// Takes the time until the only segment in flight was acknowledged, which may contain the
    /// peer's delay of the ACK.
    pub fn lone_segment(&mut self, now: u64, rtt: u64) {
        if let Some(min) = self.min() {
            self.peer_delay.add(now, rtt.saturating_sub(min));
        }
    }

    /// Returns the smoothed round-trip time, or `None` before the first measurement.
    pub fn smoothed(&self) -> Option<u64> {
        self.measured.map(|measured| measured.smoothed.max(1))
    }

    /// Returns the smallest measurement of the last 10 to 20 seconds.
    pub fn min(&self) -> Option<u64> {
        self.measured.map(|_| u64::MAX - self.min.get())
    }

    /// Returns how long the peer may delay an ACK.
    pub fn peer_delay(&self, config: &Config) -> u64 {
        self.peer_delay.get().max(config.peer_ack_delay)
    }

    /// Returns the retransmission timeout, after so many timeouts in a row.
    pub fn rto(&self, config: &Config, backoff: u32) -> u64 {
        let base = match self.measured {
            None => config.initial_rto,
            Some(Measured { smoothed, variation }) => {
                let margin = (4 * variation).max(1_000).max(self.peer_delay(config));
                (smoothed + margin).max(config.min_rto)
            }
        };
        base.saturating_mul(1 << backoff.min(16)).min(config.max_rto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { peer_ack_delay: 2_000, ..Config::default() }
    }

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.rto(&config(), 0), 1_000_000);
        rtt.sample(0, 100_000);
        assert_eq!(rtt.rto(&config(), 0), 100_000 + 4 * 50_000);
        rtt.sample(0, 200_000);
        // RTTVAR 3/4·50 + 1/4·100 = 62.5 ms, SRTT 7/8·100 + 1/8·200 = 112.5 ms.
        assert_eq!(rtt.rto(&config(), 0), 112_500 + 4 * 62_500);
        assert_eq!(rtt.rto(&config(), 1), 2 * (112_500 + 4 * 62_500));
        assert_eq!(rtt.rto(&config(), 40), 60_000_000);
    }

    #[test]
    fn no_timeout_is_shorter_than_the_delay_that_the_peer_has_shown() {
        let mut rtt = Rtt::new();
        for _ in 0..1000 {
            rtt.sample(0, 100);
        }
        assert_eq!(rtt.rto(&config(), 0), 5_000);
        rtt.lone_segment(0, 200_100);
        assert!(rtt.rto(&config(), 0) >= 200_100);
    }

    #[test]
    fn the_smallest_is_forgotten_when_the_path_has_changed() {
        let mut rtt = Rtt::new();
        rtt.sample(0, 100);
        rtt.sample(1, 300);
        assert_eq!(rtt.min(), Some(100));
        rtt.sample(MEMORY + 1, 300);
        rtt.sample(2 * MEMORY + 2, 300);
        assert_eq!(rtt.min(), Some(300));
    }
}
