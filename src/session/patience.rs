//! A clock for deadlines that leaves out time in which the process was stopped.

/// The duration from which a reactor's turn, or a part of it, counts as a stall, µs. A turn takes microseconds; one
/// that takes half a second was stopped, or blocked by something that is not the target's fault.
pub const STALL_US: u64 = 500_000;

/// A clock that runs only while the process runs.
///
/// A process that was stopped for a minute has not waited a minute for its target, because it read
/// nothing that the target sent. Deadlines are therefore measured with this clock. Leases are not:
/// the target measures them with its own clock.
#[derive(Debug, Clone)]
pub struct Patience {
    last_us: u64,
    left_out_us: u64,
}

impl Patience {
    /// Creates a clock that starts at `now_us`.
    pub fn new(now_us: u64) -> Patience {
        Patience { last_us: now_us, left_out_us: 0 }
    }

    /// Goes on to `now_us`, at the beginning of a turn or within it. Returns whether the process was
    /// stalled since the last call.
    pub fn advance(&mut self, now_us: u64) -> bool {
        let turn_us = now_us.saturating_sub(self.last_us);
        self.last_us = now_us;
        let stalled = turn_us >= STALL_US;
        if stalled {
            self.left_out_us += turn_us;
        }
        stalled
    }

    /// Returns the time of the last call of [`Patience::advance`], without the stalls.
    pub fn now_us(&self) -> u64 {
        self.last_us - self.left_out_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_are_left_out() {
        let mut patience = Patience::new(1_000_000);
        assert!(!patience.advance(1_400_000));
        assert!(patience.advance(61_400_000));
        assert_eq!(patience.now_us(), 1_400_000);
        assert!(!patience.advance(61_800_000));
        assert_eq!(patience.now_us(), 1_800_000);
    }
}
