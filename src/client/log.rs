//! Log lines that a target can cause, kept few.

/// At most one line so often, µs. A target that is lost and found again all the time is told of once a second.
const PERIOD_US: u64 = 1_000_000;

/// A limit on the log lines of one connection.
#[derive(Debug, Default)]
pub struct Limit {
    next_us: u64,
    left_out: u64,
}

impl Limit {
    /// Whether a line may be written now; if so, what to put behind it about those that were left out.
    pub fn pass(&mut self, now_us: u64) -> Option<String> {
        if now_us < self.next_us {
            self.left_out += 1;
            return None;
        }
        self.next_us = now_us + PERIOD_US;
        Some(match std::mem::take(&mut self.left_out) {
            0 => String::new(),
            left_out => format!(" ({left_out} lines like it were left out)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_then_a_count() {
        let mut limit = Limit::default();
        assert_eq!(limit.pass(0), Some(String::new()));
        assert_eq!((limit.pass(1), limit.pass(999_999)), (None, None));
        assert!(limit.pass(1_000_000).is_some_and(|tail| tail.contains("2 lines")));
        assert_eq!(limit.pass(2_000_000), Some(String::new()));
    }
}
