//! Whether a client has a connection, according to its own answers, for the checkers of what it
//! does without one.

use std::cell::Cell;
use std::rc::Rc;

/// A client's clocks, µs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clocks {
    /// The time without the periods in which the client was stopped.
    pub running_us: u64,
    /// The time without these periods and without those in which the whole world stood still.
    pub active_us: u64,
}

/// A client's answer to the question which connections it has.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// When the question was asked. The answer came later.
    pub asked: Clocks,
    /// The number of connections that the client has.
    pub connections: usize,
    /// The number of connections that the client has lost so far.
    pub lost: u64,
    /// Whether the client has stopped trying, because its device is not available.
    pub has_failed: bool,
}

/// Where a client puts its answer.
pub type Answers = Rc<Cell<Option<Answer>>>;

/// What is known of one client's connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contact {
    /// A time on the client's running clock, in µs, at which or after which the client had a
    /// connection.
    pub connected_us: u64,
    /// A time on the client's active clock since which the client has had no connection, and the
    /// number of connections that it had lost by then.
    out: Option<(u64, u64)>,
}

impl Contact {
    /// Returns what is known of a client whose bdev has just come up.
    pub fn began(now: Clocks) -> Contact {
        Contact { connected_us: now.running_us, out: None }
    }

    /// Takes an answer that the client gave before `now`.
    pub fn hear(&mut self, answer: Answer, now: Clocks) {
        if answer.connections > 0 {
            *self = Contact { connected_us: self.connected_us.max(answer.asked.running_us), out: None };
        } else if answer.has_failed {
            self.out = None;
        } else if self.out.is_none_or(|(_, lost)| lost != answer.lost) {
            // The client may have had a connection for a moment in between.
            self.out = Some((now.active_us, answer.lost));
        }
    }

    /// Returns the longest time for which the client may have been without a connection, in µs.
    pub fn out_at_most_us(&self, running_us: u64) -> u64 {
        running_us.saturating_sub(self.connected_us)
    }

    /// Returns the latest time, on the client's active clock, at which its current outage began.
    pub fn out_since_us(&self) -> Option<u64> {
        self.out.map(|(since_us, _)| since_us)
    }
}
