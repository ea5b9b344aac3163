//! The schedule of attempts to listen, for a listener that does not listen yet. Pure: the caller
//! has the sockets and calls at each tick.

/// The longest pause between two attempts, in ticks. SPDK itself logs lines for each failed
/// attempt.
const PAUSE_MAX: u32 = 32;

/// The reason for which an attempt has failed, as text for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenFailure {
    /// The machine does not have the address. The check costs little and logs nothing, so it is
    /// made at each tick.
    Absent(String),
    /// The machine has the address, but listening failed.
    Other(String),
}

impl ListenFailure {
    fn text(&self) -> &str {
        match self {
            ListenFailure::Absent(text) | ListenFailure::Other(text) => text,
        }
    }
}

/// The state of a listener that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRetry {
    last: ListenFailure,
    /// The number of ticks from the last attempt to the next.
    pause: u32,
    /// The number of ticks until the next attempt.
    left: u32,
}

impl ListenRetry {
    /// Returns the state of a listener whose first attempt has just failed.
    pub fn new(failure: ListenFailure) -> ListenRetry {
        ListenRetry { last: failure, pause: 1, left: 1 }
    }

    /// Returns the reason for which the last attempt failed.
    pub fn last_error(&self) -> &str {
        self.last.text()
    }

    /// Counts a tick. Returns true if an attempt is due.
    pub fn tick(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// Notes that an attempt has failed. Returns true if the reason differs from the previous one,
    /// so that it should be logged.
    pub fn failed(&mut self, failure: ListenFailure) -> bool {
        self.pause = match failure {
            ListenFailure::Absent(_) => 1,
            ListenFailure::Other(_) => (self.pause * 2).min(PAUSE_MAX),
        };
        self.left = self.pause;
        let is_new = self.last != failure;
        self.last = failure;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ticks until the next attempt.
    fn pause(retry: &mut ListenRetry) -> u32 {
        (1..=2 * PAUSE_MAX).find(|_| retry.tick()).expect("an attempt comes")
    }

    #[test]
    fn an_address_that_is_not_there_is_asked_for_at_each_tick() {
        let absent = || ListenFailure::Absent("no such address".to_owned());
        let mut retry = ListenRetry::new(absent());
        for _ in 0..100 {
            assert_eq!(pause(&mut retry), 1);
            assert!(!retry.failed(absent()), "one log line is enough");
        }
        assert_eq!(retry.last_error(), "no such address");
    }

    #[test]
    fn what_spdk_logs_comes_less_and_less_often() {
        let other = |text: &str| ListenFailure::Other(text.to_owned());
        let mut retry = ListenRetry::new(ListenFailure::Absent("no such address".to_owned()));
        assert_eq!(pause(&mut retry), 1);
        assert!(retry.failed(other("in use")));
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push(pause(&mut retry));
            assert!(!retry.failed(other("in use")));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 32, 32]);
        assert!(retry.failed(other("something else")));
        assert_eq!(retry.last_error(), "something else");
        // The address is gone again.
        assert!(retry.failed(ListenFailure::Absent("no such address".to_owned())));
        assert_eq!(pause(&mut retry), 1);
    }
}
