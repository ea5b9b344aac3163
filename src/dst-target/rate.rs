//! Log lines that a peer can cause, kept few.

use std::cell::Cell;

/// Lines let through a second; the rest are counted and told with the next one.
const LINES_A_SECOND: u32 = 10;

/// A limit on log lines.
#[derive(Debug, Default)]
pub struct RateLimit {
    window_us: Cell<u64>,
    lines: Cell<u32>,
    left_out: Cell<u64>,
}

impl RateLimit {
    /// Whether one more line may be logged now; if so, how many were left out before it.
    pub fn pass(&self, now_us: u64) -> Option<u64> {
        if now_us.saturating_sub(self.window_us.get()) >= 1_000_000 {
            self.window_us.set(now_us);
            self.lines.set(0);
        }
        if self.lines.get() >= LINES_A_SECOND {
            self.left_out.set(self.left_out.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.left_out.replace(0))
    }

    /// Logs a warning, unless there were too many lines; says so if some were left out.
    pub fn warn(&self, text: std::fmt::Arguments<'_>) {
        match self.pass(spdk::clock::now_us()) {
            None => {}
            Some(0) => spdk::warn!("{text}"),
            Some(left_out) => spdk::warn!("{text} ({left_out} lines before it were left out)"),
        }
    }

    /// Logs a change of state, likewise.
    pub fn notice(&self, text: std::fmt::Arguments<'_>) {
        match self.pass(spdk::clock::now_us()) {
            None => {}
            Some(0) => spdk::notice!("{text}"),
            Some(left_out) => spdk::notice!("{text} ({left_out} lines before it were left out)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_then_a_count() {
        let limit = RateLimit::default();
        let passed = (0..25).filter(|_| limit.pass(5_000_000).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(limit.pass(6_000_000), Some(15));
        assert_eq!(limit.pass(6_000_000), Some(0));
    }
}
