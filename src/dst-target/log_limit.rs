//! The limit on log lines that peers can cause.

use std::cell::Cell;

use dst_session::rate::{self, LeftOut};

/// The maximum number of lines in a second. Further lines are left out, and the next line says how
/// many.
const LINES_A_SECOND: u32 = 10;

/// A limit on the rate of log lines.
#[derive(Debug, Default)]
pub struct LogLimit(Cell<rate::RateLimit<LINES_A_SECOND>>);

impl LogLimit {
    fn pass(&self) -> Option<LeftOut> {
        let mut limit = self.0.get();
        let passed = limit.pass(spdk::clock::now_us());
        self.0.set(limit);
        passed
    }

    /// Logs a warning, unless the limit is reached. The line says how many lines were left out
    /// before.
    pub fn warn(&self, text: std::fmt::Arguments<'_>) {
        if let Some(left_out) = self.pass() {
            spdk::warn!("{text}{left_out}");
        }
    }

    /// Logs a notice in the same way.
    pub fn notice(&self, text: std::fmt::Arguments<'_>) {
        if let Some(left_out) = self.pass() {
            spdk::notice!("{text}{left_out}");
        }
    }
}
