//! Whether a client has a connection, as far as it says so when it is asked: for the checkers of
//! what it does without one.

use std::cell::Cell;
use std::rc::Rc;

/// A client's clocks, µs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clocks {
    /// Without the time in which the client was stopped.
    pub running_us: u64,
    /// Also without the time in which all the world stood still.
    pub active_us: u64,
}

/// A client's answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// When it was asked. It answered later.
    pub asked: Clocks,
    /// Connections that it has.
    pub connections: usize,
    /// Connections that it lost so far.
    pub lost: u64,
    /// It tries no more, as its device can't be had.
    pub has_failed: bool,
}

/// Where a client puts its answer.
pub type Answers = Rc<Cell<Option<Answer>>>;

/// What is known of one client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contact {
    /// The client had a connection at this time of its running clock, or later, µs.
    pub connected_us: u64,
    /// The client has been without a connection since this time of its active clock, or for longer,
    /// with what it had lost by then.
    out: Option<(u64, u64)>,
}

impl Contact {
    /// A client's bdev has just come up.
    pub fn began(now: Clocks) -> Contact {
        Contact { connected_us: now.running_us, out: None }
    }

    /// A client has said how it stands, before `now`.
    pub fn hear(&mut self, answer: Answer, now: Clocks) {
        if answer.connections > 0 {
            *self = Contact { connected_us: self.connected_us.max(answer.asked.running_us), out: None };
        } else if answer.has_failed {
            self.out = None;
        } else if self.out.is_none_or(|(_, lost)| lost != answer.lost) {
            // It may have had one for a moment in between.
            self.out = Some((now.active_us, answer.lost));
        }
    }

    /// Returns for how long the client may have been without a connection, at most, µs.
    pub fn out_at_most_us(&self, running_us: u64) -> u64 {
        running_us.saturating_sub(self.connected_us)
    }

    /// Returns since when the client has been without a connection, at the latest.
    pub fn out_since_us(&self) -> Option<u64> {
        self.out.map(|(since_us, _)| since_us)
    }
}
