//! When a client's I/O ends without an answer.

use crate::mutation::{self, Mutation};
use crate::patience::Patience;
use crate::stop::{Connected, Stop, Stopping};

/// Whether a bdev's device can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The device is there, or may come back.
    Available,
    /// The target has been out of reach for longer than I/O is to wait; it is still tried.
    Unreachable,
    /// The device can't be had any more: another one is in its place, or it was removed.
    Failed,
    /// The bdev is being deleted, whatever became of the device.
    Closing,
}

impl Availability {
    /// Returns the availability of a bdev that is `closing` or has `failed`, or neither.
    pub fn new(closing: bool, failed: bool) -> Availability {
        if closing && !mutation::is_on(Mutation::NoRemoval) {
            Availability::Closing
        } else if failed {
            Availability::Failed
        } else {
            Availability::Available
        }
    }

    /// Returns the availability for a client that the target has just admitted.
    pub fn reached(self) -> Availability {
        if self == Availability::Unreachable { Availability::Available } else { self }
    }

    /// Returns whether the target is not tried any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Availability::Available | Availability::Unreachable)
    }
}

/// What becomes of an I/O that has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The I/O goes on waiting.
    Keep,
    /// Its time is up.
    Expired,
    /// It does not wait for a target that is out of reach.
    Unreachable,
    /// It ends with its bdev.
    Ended,
}

/// What is done with a connection about the oldest transaction that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing: it has time.
    Wait,
    /// It is aborted, if it was not before, and the connection goes on.
    Abort,
    /// The connection is given up: what was sent may still be executed, and only a fence, or the end
    /// of the lease, lets it fail.
    GiveUp,
}

/// The deadlines of one channel's I/O. All times are those of [`Deadlines::now_us`].
#[derive(Debug, Clone)]
pub struct Deadlines {
    patience: Patience,
    /// The time from an I/O's submission to its deadline.
    timeout_us: u64,
    /// How long a target that answers may take for what it has when the bdev is deleted, and for
    /// the answer to an abort.
    closing_timeout_us: u64,
    /// The first time that an I/O was found while the bdev was being deleted.
    closing_since_us: Option<u64>,
    stopping: Stopping,
}

impl Deadlines {
    /// Begins at `now_us`. An I/O has `timeout_ms` from its submission, and `closing_timeout_ms`
    /// from the time that it, or another one, was first found while the bdev was being deleted.
    /// From the process's stop on all I/O has `timeout_ms` together, as [`crate::stop`] says.
    pub fn new(timeout_ms: u32, closing_timeout_ms: u32, now_us: u64) -> Deadlines {
        Deadlines {
            patience: Patience::new(now_us),
            timeout_us: u64::from(timeout_ms) * 1000,
            closing_timeout_us: u64::from(closing_timeout_ms) * 1000,
            closing_since_us: None,
            stopping: Stopping::No,
        }
    }

    /// Goes on to `now_us`, at the beginning of a turn or within it. Returns whether there was a stall
    /// since the last call.
    pub fn advance(&mut self, now_us: u64) -> bool {
        self.patience.advance(now_us)
    }

    /// Returns the time of the last call of [`Deadlines::advance`], without the stalls.
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.patience.now_us()
    }

    /// Returns whether the time of an I/O is up that was submitted at `since_us`.
    pub fn is_late(&self, since_us: u64) -> bool {
        self.now_us() >= since_us + self.timeout_us && !mutation::is_on(Mutation::NoDeadline)
    }

    /// Returns what is done about a transaction that was sent and submitted at `since_us`, if it is
    /// the oldest. With `has_aborts` the target knows aborts. It has as long to answer one as it may
    /// be silent.
    pub fn overdue(&mut self, availability: Availability, has_aborts: bool, since_us: u64) -> Overdue {
        match self.fate(availability, true, since_us) {
            Fate::Keep => Overdue::Wait,
            Fate::Expired
                if has_aborts
                    && availability != Availability::Closing
                    && self.is_late(since_us)
                    && !self.is_late(since_us + self.closing_timeout_us)
                    && !self.hangs_in_stop(since_us) =>
            {
                Overdue::Abort
            }
            Fate::Expired | Fate::Unreachable | Fate::Ended => Overdue::GiveUp,
        }
    }

    /// Looks whether the process was told to stop. `now_us` is the time of this turn, stalls
    /// included.
    pub fn look_at_stop(&mut self, stop: &Stop, now_us: u64) {
        self.stopping.look(stop, now_us, self.now_us());
    }

    /// Returns whether the process stops and nothing waits for its target any more, with a
    /// connection or, if it has none, without one.
    pub fn is_stop_over(&self, has_connection: bool) -> bool {
        let now_us = self.now_us();
        match has_connection {
            true => self.stopping.is_over(self.timeout_us, now_us),
            false => self.stopping.ends(None, self.timeout_us, now_us),
        }
    }

    /// Returns whether the process stops, and an I/O that was submitted at `since_us` is not
    /// answered because its backend hangs.
    pub fn hangs_in_stop(&self, since_us: u64) -> bool {
        self.stopping.is_last_chance(self.connected(since_us), self.timeout_us)
    }

    fn connected(&self, since_us: u64) -> Connected {
        Connected { submitted_us: since_us, answer_us: self.closing_timeout_us }
    }

    /// Returns the fate of an I/O that was submitted at `since_us`.
    ///
    /// With a connection, a target may finish what it has although the device is
    /// [`Availability::Failed`] or [`Availability::Closing`]; without one, the I/O ends. With one,
    /// [`Availability::Unreachable`] means nothing: the target was reached meanwhile.
    pub fn fate(&mut self, availability: Availability, has_connection: bool, since_us: u64) -> Fate {
        if availability.is_over() && !has_connection {
            return Fate::Ended;
        }
        if availability == Availability::Unreachable && !has_connection {
            return Fate::Unreachable;
        }
        let now_us = self.now_us();
        if availability == Availability::Closing
            && now_us >= *self.closing_since_us.get_or_insert(now_us) + self.closing_timeout_us
        {
            return Fate::Expired;
        }
        let connected = has_connection.then(|| self.connected(since_us));
        if self.is_late(since_us) || self.stopping.ends(connected, self.timeout_us, now_us) {
            Fate::Expired
        } else {
            Fate::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::STALL_US;
    use proptest::prelude::*;

    const ALL: [Availability; 4] =
        [Availability::Available, Availability::Unreachable, Availability::Failed, Availability::Closing];

    #[test]
    fn closing_wins_over_failed() {
        let of = Availability::new;
        assert_eq!(
            [of(false, false), of(false, true), of(true, false), of(true, true)],
            [Availability::Available, Availability::Failed, Availability::Closing, Availability::Closing]
        );
        assert_eq!(ALL.map(Availability::is_over), [false, false, true, true]);
        assert_eq!(ALL.map(Availability::reached), [ALL[0], ALL[0], ALL[2], ALL[3]]);
    }

    #[test]
    fn an_io_expires_at_its_deadline_and_not_before() {
        let mut deadlines = Deadlines::new(100, 10, 0);
        deadlines.advance(99_999);
        assert_eq!(deadlines.fate(Availability::Available, false, 0), Fate::Keep);
        deadlines.advance(100_000);
        assert_eq!(deadlines.fate(Availability::Available, false, 0), Fate::Expired);
        assert_eq!(deadlines.fate(Availability::Available, false, 1), Fate::Keep);
    }

    #[test]
    fn a_deleted_bdev_waits_for_a_target_that_answers_but_not_long() {
        let mut deadlines = Deadlines::new(1000, 10, 0);
        deadlines.advance(50_000);
        assert_eq!(deadlines.fate(Availability::Closing, true, 0), Fate::Keep, "it counts from here");
        assert_eq!(deadlines.fate(Availability::Closing, false, 0), Fate::Ended);
        deadlines.advance(59_999);
        assert_eq!(deadlines.fate(Availability::Closing, true, 0), Fate::Keep);
        deadlines.advance(60_000);
        assert_eq!(deadlines.fate(Availability::Closing, true, 0), Fate::Expired);
        assert_eq!(deadlines.fate(Availability::Failed, true, 0), Fate::Keep);
    }

    #[test]
    fn what_is_overdue_is_aborted_and_given_up_if_that_does_not_help() {
        let mut deadlines = Deadlines::new(100, 10, 0);
        let mut at = |now, availability, has_aborts| {
            deadlines.advance(now);
            deadlines.overdue(availability, has_aborts, 0)
        };
        assert_eq!(at(99_999, Availability::Available, true), Overdue::Wait);
        assert_eq!(at(100_000, Availability::Available, false), Overdue::GiveUp, "the target knows none");
        assert_eq!(at(100_000, Availability::Available, true), Overdue::Abort);
        assert_eq!(at(100_000, Availability::Failed, true), Overdue::Abort);
        assert_eq!(at(100_000, Availability::Closing, true), Overdue::GiveUp);
        assert_eq!(at(100_000, Availability::Unreachable, true), Overdue::Abort, "it was reached");
        assert_eq!(at(109_999, Availability::Available, true), Overdue::Abort);
        assert_eq!(at(110_000, Availability::Available, true), Overdue::GiveUp);
    }

    #[test]
    fn an_abort_does_not_prolong_a_stop() {
        let (mut deadlines, stop) = (Deadlines::new(100, 10, 0), Stop::default());
        stop.begin(40_000);
        deadlines.advance(50_000);
        deadlines.look_at_stop(&stop, 50_000);
        deadlines.advance(139_999);
        let overdue =
            |deadlines: &mut Deadlines, since_us| deadlines.overdue(Availability::Available, true, since_us);
        assert_eq!(overdue(&mut deadlines, 39_999), Overdue::Abort, "its own time is up");
        assert_eq!(overdue(&mut deadlines, 50_000), Overdue::Wait);
        // The stop's patience is used up.
        deadlines.advance(140_000);
        assert_eq!(overdue(&mut deadlines, 39_999), Overdue::Abort);
        assert_eq!(overdue(&mut deadlines, 50_000), Overdue::GiveUp, "its own time is not up");
        assert_eq!(overdue(&mut deadlines, 139_000), Overdue::Wait);
        deadlines.advance(149_999);
        assert_eq!(overdue(&mut deadlines, 39_999), Overdue::GiveUp, "the abort does not help");
        assert!(deadlines.hangs_in_stop(139_000));
        assert_eq!(overdue(&mut deadlines, 139_000), Overdue::GiveUp);
    }

    #[test]
    fn io_submitted_late_in_a_stop_does_not_wait_for_a_connection() {
        let (mut deadlines, stop) = (Deadlines::new(100, 10, 0), Stop::default());
        stop.begin(40_000);
        deadlines.advance(50_000);
        deadlines.look_at_stop(&stop, 50_000);
        deadlines.advance(139_999);
        assert_eq!(deadlines.fate(Availability::Available, false, 139_000), Fate::Keep);
        assert!(!deadlines.is_stop_over(false));
        deadlines.advance(140_000);
        assert_eq!(deadlines.fate(Availability::Available, false, 139_000), Fate::Expired);
        assert!(deadlines.is_stop_over(false) && !deadlines.is_stop_over(true));
        assert_eq!(deadlines.fate(Availability::Available, true, 139_000), Fate::Keep);
        assert!(!deadlines.hangs_in_stop(50_000) && deadlines.hangs_in_stop(139_000));
        deadlines.advance(149_000);
        assert_eq!(deadlines.fate(Availability::Available, true, 139_000), Fate::Expired);
    }

    proptest! {
        /// Turns of any length, stalls among them.
        #[test]
        fn time_in_which_nothing_ran_counts_for_no_deadline(
            turns in proptest::collection::vec(0..2 * STALL_US, 1..40),
            timeout_ms in 1u32..5000,
        ) {
            let mut deadlines = Deadlines::new(timeout_ms, 1, 0);
            let (mut now, mut ran) = (0, 0);
            for turn in turns {
                now += turn;
                let stalled = deadlines.advance(now);
                prop_assert_eq!(stalled, turn >= STALL_US);
                ran += if stalled { 0 } else { turn };
                prop_assert_eq!(deadlines.now_us(), ran);
                let expected = if ran >= u64::from(timeout_ms) * 1000 { Fate::Expired } else { Fate::Keep };
                prop_assert_eq!(deadlines.fate(Availability::Available, false, 0), expected);
            }
        }

        /// Without a connection an I/O of a bdev that is over always ends; with one never without
        /// its time.
        #[test]
        fn only_a_lost_target_ends_io_at_once(
            index in 0usize..4,
            has_connection: bool,
            since in 0u64..50_000,
        ) {
            let mut deadlines = Deadlines::new(1000, 1000, 0);
            deadlines.advance(50_000);
            let fate = deadlines.fate(ALL[index], has_connection, since);
            prop_assert_eq!(fate == Fate::Ended, ALL[index].is_over() && !has_connection);
            let is_out_of_reach = ALL[index] == Availability::Unreachable && !has_connection;
            prop_assert_eq!(fate == Fate::Unreachable, is_out_of_reach);
            prop_assert_ne!(fate, Fate::Expired);
        }
    }
}
