//! CUBIC (RFC 9438). Windows are bytes, times microseconds.

use crate::mutation::{Mutation, is_on};

/// RFC 9438, 5: the cubic's steepness, in segments a second cubed.
const C: f64 = 0.4;

/// RFC 9438, 4.6: what remains of the window after a loss.
const BETA: f64 = 0.7;

/// RFC 6928: the initial window in segments, and in bytes.
const INITIAL_SEGMENTS: u64 = 10;
const INITIAL_BYTES: u64 = 14_600;

/// The congestion window of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cubic {
    mss: u64,
    window: f64,
    slow_start_threshold: f64,
    /// The window before the last reduction.
    max: f64,
    growth: Option<Growth>,
}

/// Congestion avoidance since the last reduction or pause.
#[derive(Debug, Clone, Copy)]
struct Growth {
    since: u64,
    /// The window at the beginning.
    origin: f64,
    /// Seconds until the cubic reaches `max`.
    k: f64,
    /// The window that Reno would have.
    reno: f64,
}

impl Cubic {
    pub fn new(mss: u64) -> Cubic {
        let window = (INITIAL_SEGMENTS * mss).min((2 * mss).max(INITIAL_BYTES)) as f64;
        Cubic { mss, window, slow_start_threshold: f64::INFINITY, max: 0.0, growth: None }
    }

    /// Returns the congestion window, at least one segment.
    pub fn window(&self) -> u64 {
        (self.window as u64).max(self.mss)
    }

    /// Returns the window at which slow start ends.
    pub fn slow_start_threshold(&self) -> u64 {
        self.slow_start_threshold as u64
    }

    /// Returns whether slow start has not ended yet since the connection began.
    pub fn is_initial(&self) -> bool {
        self.slow_start_threshold == f64::INFINITY
    }

    /// Ends slow start, without a loss.
    pub fn end_slow_start(&mut self) {
        self.slow_start_threshold = self.window;
    }

    /// Takes bytes that were acknowledged while the window was in use.
    pub fn on_ack(&mut self, now: u64, bytes: u64, rtt: u64) {
        if self.window < self.slow_start_threshold {
            self.window = (self.window + bytes as f64).min(self.slow_start_threshold.max(self.window));
            return;
        }
        let mss = self.mss as f64;
        let (window, max) = (self.window, self.max);
        let growth = self.growth.get_or_insert_with(|| {
            let k = ((max - window).max(0.0) / mss / C).cbrt();
            Growth { since: now, origin: window, k, reno: window }
        });
        let target = |at: u64| {
            let t = at.saturating_sub(growth.since) as f64 / 1e6 - growth.k;
            C * t * t * t * mss + max.max(growth.origin)
        };
        // RFC 9438, 4.3: as Reno would do with this reduction.
        let alpha = if growth.reno < max { 3.0 * (1.0 - BETA) / (1.0 + BETA) } else { 1.0 };
        let reno = growth.reno + alpha * mss * bytes as f64 / window;
        let goal = target(now + rtt).clamp(window, 1.5 * window);
        growth.reno = reno;
        self.window = (window + (goal - window) * bytes as f64 / window).max(reno);
    }

    /// Takes a loss: reduces the window, with so many bytes in flight.
    pub fn on_loss(&mut self, in_flight: u64) {
        if is_on(Mutation::NoReduction) {
            return;
        }
        // RFC 9438, 4.7: a flow that had less than before makes room for others.
        self.max = if self.window < self.max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        let floor = (2 * self.mss) as f64;
        // RFC 9438, 4.6: of what was in flight, or a window that was not in use would count.
        self.slow_start_threshold = ((in_flight as f64).min(self.window) * BETA).max(floor);
        self.window = self.slow_start_threshold;
        self.growth = None;
    }

    /// Takes a timeout, after [`Cubic::on_loss`]: begins with one segment.
    pub fn on_timeout(&mut self) {
        self.window = self.mss as f64;
        self.growth = None;
    }

    /// Sets the window that fast recovery ends with.
    pub fn on_recovered(&mut self) {
        self.window = self.slow_start_threshold.min(self.window);
        self.growth = None;
    }

    /// Takes a pause after which the path may have changed: begins with the initial window at most.
    pub fn on_idle(&mut self) {
        let initial = Cubic::new(self.mss).window;
        self.slow_start_threshold = self.slow_start_threshold.max(0.75 * self.window);
        self.window = self.window.min(initial);
        self.growth = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u64 = 1460;

    #[test]
    fn begins_with_ten_segments() {
        assert_eq!(Cubic::new(MSS).window(), 14_600);
        assert_eq!(Cubic::new(8960).window(), 2 * 8960);
        assert_eq!(Cubic::new(536).window(), 5360);
    }

    #[test]
    fn doubles_each_round_until_a_loss() {
        let mut cubic = Cubic::new(MSS);
        for _ in 0..10 {
            cubic.on_ack(0, MSS, 1000);
        }
        assert_eq!(cubic.window(), 29_200);
        cubic.on_loss(29_200);
        assert_eq!(cubic.window(), 20_440);
        assert_eq!(cubic.slow_start_threshold(), 20_440);
    }

    /// RFC 9438, 4.2: the window is back at its old size after K = cbrt(W_max · (1 - β) / C)
    /// seconds.
    #[test]
    fn is_back_after_k_seconds() {
        let mut cubic = Cubic::new(MSS);
        let before = 1000 * MSS;
        cubic.window = before as f64;
        cubic.on_loss(before);
        let k = (1000.0f64 * 0.3 / 0.4).cbrt();
        let rtt = 100_000;
        let (mut now, mut at_half) = (0, 0);
        while (now as f64) < k * 1e6 {
            // A window is acknowledged each round.
            for _ in 0..10 {
                cubic.on_ack(now, cubic.window() / 10, rtt);
                now += rtt / 10;
            }
            if (now as f64) < k * 0.5e6 {
                at_half = cubic.window();
            }
        }
        assert!(at_half > before * 9 / 10, "steep at first: {at_half}");
        assert!((before * 98 / 100..before * 103 / 100).contains(&cubic.window()), "{}", cubic.window());
    }

    #[test]
    fn grows_at_least_as_reno_on_short_paths() {
        let mut cubic = Cubic::new(MSS);
        cubic.window = (20 * MSS) as f64;
        cubic.on_loss(20 * MSS);
        let from = cubic.window();
        let mut now = 0;
        for _ in 0..100 {
            cubic.on_ack(now, cubic.window(), 100);
            now += 100;
        }
        assert!(cubic.window() >= from + 50 * MSS, "{}", cubic.window());
    }
}
