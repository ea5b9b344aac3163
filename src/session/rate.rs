//! A limit on the log lines that a peer can cause.

use std::fmt;

/// The period over which lines are counted, µs.
const PERIOD_US: u64 = 1_000_000;

/// A limit of `LINES` log lines a second. Lines beyond the limit are counted, and the next line
/// reports how many there were.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimit<const LINES: u32> {
    began_us: u64,
    lines: u32,
    left_out: u64,
}

/// The number of lines that were left out before a line. Its text is the ending of that line, which
/// is empty if there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(pub u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lines => write!(f, " ({lines} lines like it were left out)"),
        }
    }
}

impl<const LINES: u32> RateLimit<LINES> {
    /// Returns the ending for a line that may be written now, or `None` if the line has to be left
    /// out.
    pub fn pass(&mut self, now_us: u64) -> Option<LeftOut> {
        if self.lines == 0 || now_us.saturating_sub(self.began_us) >= PERIOD_US {
            (self.began_us, self.lines) = (now_us, 0);
        }
        if self.lines >= LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(LeftOut(std::mem::take(&mut self.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_then_a_count() {
        let mut limit = RateLimit::<10>::default();
        let passed = (0..25).filter(|_| limit.pass(5_000_000).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(limit.pass(6_000_000), Some(LeftOut(15)));
        assert_eq!(limit.pass(6_000_000), Some(LeftOut(0)));
    }

    #[test]
    fn one_a_second_then_a_count() {
        let mut limit = RateLimit::<1>::default();
        assert_eq!(limit.pass(500_000), Some(LeftOut(0)));
        assert_eq!((limit.pass(500_001), limit.pass(1_499_999)), (None, None));
        assert_eq!(limit.pass(1_500_000), Some(LeftOut(2)));
        assert_eq!(limit.pass(2_500_000), Some(LeftOut(0)));
    }

    #[test]
    fn a_line_ends_with_what_was_left_out() {
        assert_eq!(LeftOut(0).to_string(), "");
        assert_eq!(LeftOut(2).to_string(), " (2 lines like it were left out)");
    }
}
