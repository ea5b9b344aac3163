//! When a listener that does not listen yet tries again. Pure: the caller has the sockets, and counts
//! ticks.

/// The longest pause, in ticks. SPDK logs lines of its own for each attempt that it fails.
const PAUSE_MAX: u32 = 32;

/// Why an attempt has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The machine does not have the address. Asking costs little and logs nothing, so it is asked at
    /// each tick.
    Absent(String),
    /// The machine has the address, and listening failed all the same.
    Other(String),
}

impl Failure {
    fn text(&self) -> &str {
        match self {
            Failure::Absent(text) | Failure::Other(text) => text,
        }
    }
}

/// A listener that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    last: Failure,
    /// The ticks from the last attempt to the next.
    pause: u32,
    /// The ticks that are left of them.
    left: u32,
}

impl Retry {
    /// Returns a listener whose first attempt has failed just now.
    pub fn new(failure: Failure) -> Retry {
        Retry { last: failure, pause: 1, left: 1 }
    }

    /// Returns why the last attempt failed.
    pub fn last_error(&self) -> &str {
        self.last.text()
    }

    /// A tick has passed. Returns true if another attempt is due.
    pub fn tick(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// Another attempt has failed. Returns true if the reason is another one than before, so that the
    /// log should have it.
    pub fn failed(&mut self, failure: Failure) -> bool {
        self.pause = match failure {
            Failure::Absent(_) => 1,
            Failure::Other(_) => (self.pause * 2).min(PAUSE_MAX),
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
    fn pause(retry: &mut Retry) -> u32 {
        (1..=2 * PAUSE_MAX).find(|_| retry.tick()).expect("an attempt comes")
    }

    #[test]
    fn an_address_that_is_not_there_is_asked_for_at_each_tick() {
        let absent = || Failure::Absent("no such address".to_owned());
        let mut retry = Retry::new(absent());
        for _ in 0..100 {
            assert_eq!(pause(&mut retry), 1);
            assert!(!retry.failed(absent()), "one log line is enough");
        }
        assert_eq!(retry.last_error(), "no such address");
    }

    #[test]
    fn what_spdk_logs_comes_less_and_less_often() {
        let other = |text: &str| Failure::Other(text.to_owned());
        let mut retry = Retry::new(Failure::Absent("no such address".to_owned()));
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
        assert!(retry.failed(Failure::Absent("no such address".to_owned())));
        assert_eq!(pause(&mut retry), 1);
    }
}
