//! How long a client waits for its targets once its process was told to stop.
//!
//! Layers above a bdev end one after another, each with I/O of its own: a hundred lvstores on dead
//! targets must not take a hundred times the patience of one. So all bdevs and all their I/O share
//! one patience that begins with the stop, and whose length is the time that I/O has:
//!
//! - Without a connection, I/O waits until that patience is used up, and later I/O does not wait at
//!   all. What was sent still fails only behind its fence.
//! - With a connection, I/O goes on for as long as the target answers, so that the layers above end
//!   cleanly. An I/O that the patience does not cover any more has the keep-alive time to be
//!   answered. The first one that is not shows that a backend hangs, and the process waits for
//!   none any more.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::mutation::{self, Mutation};

/// The value of [`Stop::since_us`] before the stop.
const NOT_YET: u64 = u64::MAX;

/// The stop of a process, which all its bdevs and channels share. Any thread.
///
/// `Relaxed`: no other data goes with it, and readers look again within milliseconds.
#[derive(Debug)]
pub struct Stop {
    since_us: AtomicU64,
    /// Whether a backend was found to hang when the patience was used up.
    is_hopeless: AtomicBool,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { since_us: AtomicU64::new(NOT_YET), is_hopeless: AtomicBool::new(false) }
    }
}

impl Stop {
    /// Notes that the process was told to stop. The first call counts.
    pub fn begin(&self, now_us: u64) {
        let _ = self.since_us.compare_exchange(NOT_YET, now_us, Relaxed, Relaxed);
    }

    /// Returns whether the process was told to stop.
    pub fn has_begun(&self) -> bool {
        self.since_us.load(Relaxed) != NOT_YET
    }

    /// Notes that a backend did not answer although the patience was used up.
    pub fn give_up(&self) {
        self.is_hopeless.store(true, Relaxed);
    }
}

/// The stop as one channel sees it, on the clock of its deadlines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stopping {
    /// The process was not told to stop.
    #[default]
    No,
    /// The process was told to stop.
    Since {
        /// When, by the clock of deadlines.
        since_us: u64,
        /// Whether a backend was found to hang when the patience was used up.
        is_hopeless: bool,
    },
}

impl Stopping {
    /// Looks at the stop at `now_us`, which is `patient_us` by the clock of deadlines. The two are
    /// compared when the stop is first seen: time in which the process does not run does not count
    /// from then on.
    pub fn look(&mut self, stop: &Stop, now_us: u64, patient_us: u64) {
        let began_us = stop.since_us.load(Relaxed);
        if began_us == NOT_YET {
            return;
        }
        let is_hopeless = stop.is_hopeless.load(Relaxed);
        let since_us = match *self {
            Stopping::No => patient_us.saturating_sub(now_us.saturating_sub(began_us)),
            Stopping::Since { since_us, .. } => since_us,
        };
        *self = Stopping::Since { since_us, is_hopeless };
    }

    /// Returns the time from which on I/O does not wait any more. With a connection, the target has
    /// `answer_us` for an I/O that was submitted at `submitted_us`.
    fn until_us(self, connected: Option<Connected>, timeout_us: u64) -> u64 {
        let Stopping::Since { since_us, is_hopeless } = self else { return u64::MAX };
        let timeout_us = if mutation::is_on(Mutation::StopIsImpatient) { 0 } else { timeout_us };
        let used_up_us = since_us + timeout_us;
        match connected {
            Some(Connected { submitted_us, answer_us }) if !is_hopeless => {
                used_up_us.max(submitted_us + answer_us)
            }
            _ if mutation::is_on(Mutation::StopWaitsForEach) => u64::MAX,
            _ => used_up_us,
        }
    }

    /// Returns whether an I/O does not wait any more at `now_us`, because the process stops.
    pub fn ends(self, connected: Option<Connected>, timeout_us: u64, now_us: u64) -> bool {
        now_us >= self.until_us(connected, timeout_us)
    }

    /// Returns whether the patience was used up before an I/O's time was: if it is not answered,
    /// its backend hangs.
    pub fn is_last_chance(self, connected: Connected, timeout_us: u64) -> bool {
        matches!(self, Stopping::Since { since_us, .. }
            if connected.submitted_us + connected.answer_us > since_us + timeout_us)
    }

    /// Returns whether nothing waits any more at `now_us`, whatever its connection.
    pub fn is_over(self, timeout_us: u64, now_us: u64) -> bool {
        matches!(self, Stopping::Since { is_hopeless: true, .. }) && self.ends(None, timeout_us, now_us)
    }
}

/// An I/O of a channel with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// When it was submitted.
    pub submitted_us: u64,
    /// How long a target that answers may take for it in any case.
    pub answer_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stopped_at(since_us: u64) -> (Stop, Stopping) {
        let (stop, mut stopping) = (Stop::default(), Stopping::default());
        stop.begin(since_us);
        stopping.look(&stop, since_us, since_us);
        (stop, stopping)
    }

    fn connected(submitted_us: u64) -> Option<Connected> {
        Some(Connected { submitted_us, answer_us: 10 })
    }

    #[test]
    fn nothing_ends_without_a_stop() {
        let (stop, mut stopping) = (Stop::default(), Stopping::default());
        stop.give_up();
        stopping.look(&stop, 1000, 1000);
        assert_eq!((stop.has_begun(), stopping), (false, Stopping::No));
        assert!(!stopping.ends(None, 0, u64::MAX - 1) && !stopping.is_over(0, u64::MAX - 1));
    }

    #[test]
    fn without_a_connection_all_io_has_one_patience() {
        let (stop, stopping) = stopped_at(1000);
        stop.begin(5000);
        assert_eq!(stopped_at(1000).1, stopping, "the first stop counts");
        assert!(!stopping.ends(None, 100, 1099) && stopping.ends(None, 100, 1100));
    }

    #[test]
    fn with_a_connection_late_io_has_the_time_to_be_answered_until_one_is_not() {
        let (stop, mut stopping) = stopped_at(1000);
        assert!(!stopping.ends(connected(900), 100, 1099) && stopping.ends(connected(900), 100, 1100));
        assert!(!stopping.ends(connected(5000), 100, 5009) && stopping.ends(connected(5000), 100, 5010));
        assert!(!stopping.is_over(100, 9999));
        stop.give_up();
        stopping.look(&stop, 5010, 5010);
        assert!(stopping.ends(connected(5010), 100, 5010) && stopping.is_over(100, 5010));
        assert!(!stopping.is_over(100, 1099), "patience is never shorter");
    }

    #[test]
    fn a_backend_hangs_if_it_does_not_use_its_last_chance() {
        let (_, stopping) = stopped_at(1000);
        let is_last = |submitted_us| stopping.is_last_chance(Connected { submitted_us, answer_us: 10 }, 100);
        assert_eq!([1000, 1090, 1091, 5000].map(is_last), [false, false, true, true]);
    }

    proptest! {
        /// Time in which the process did not run is left out once the stop was seen.
        #[test]
        fn a_stop_counts_like_deadlines(
            began in 0u64..1000,
            seen_after in 0u64..1000,
            stalled in 0u64..1000,
            ran in 0u64..1000,
        ) {
            let (stop, mut stopping) = (Stop::default(), Stopping::default());
            stop.begin(began);
            let (seen, stalls_before) = (began + seen_after, began / 2);
            let mut look = |raw: u64, stalls: u64| {
                stopping.look(&stop, raw, raw - stalls);
                stopping
            };
            look(seen, stalls_before);
            let stopping = look(seen + stalled + ran, stalls_before + stalled);
            let patient = seen + ran - stalls_before;
            prop_assert_eq!(stopping.ends(None, 500, patient), seen_after + ran >= 500);
        }
    }
}
