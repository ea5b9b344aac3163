//! Log lines that a peer can cause, kept few.

use std::cell::Cell;

use dst_session::rate::{self, LeftOut};

/// Lines let through a second; the rest are counted and told with the next one.
const LINES_A_SECOND: u32 = 10;

/// A limit on log lines.
#[derive(Debug, Default)]
pub struct RateLimit(Cell<rate::RateLimit<LINES_A_SECOND>>);

impl RateLimit {
    fn pass(&self) -> Option<LeftOut> {
        let mut limit = self.0.get();
        let passed = limit.pass(spdk::clock::now_us());
        self.0.set(limit);
        passed
    }

    /// Logs a warning, unless there were too many lines; says so if some were left out.
    pub fn warn(&self, text: std::fmt::Arguments<'_>) {
        if let Some(left_out) = self.pass() {
            spdk::warn!("{text}{left_out}");
        }
    }

    /// Logs a change of state, likewise.
    pub fn notice(&self, text: std::fmt::Arguments<'_>) {
        if let Some(left_out) = self.pass() {
            spdk::notice!("{text}{left_out}");
        }
    }
}
