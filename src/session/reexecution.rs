//! Which I/O that a reset of the backend has ended the target executes again.
//!
//! A reset ends all I/O of a bdev, and some bdevs' resets also end that of other bdevs (the reset
//! of an NVMe namespace resets the controller). Hosts that did not ask for the reset must not
//! notice it. The backend does not say which I/O a reset ended, so any failure of an I/O that was
//! in the backend during a reset counts as such.
//!
//! An I/O that the backend has failed may have taken effect. So only those operations are executed
//! again that may be executed twice: the ones that a client also sends again to a restarted target.
//! The caller also checks the lease.
//!
//! A flush that has failed may have lost data, and some bdevs report that only once: fsync, with
//! which the aio bdev flushes, succeeds when it is called again. So a flush is executed again only if
//! its status says that it was aborted.

use dst_wire::{InNewSession, Op, Status};

use crate::mutation::{self, Mutation};

/// How often an I/O is executed again at most. A target begins at most two resets of an export a
/// second, so an I/O that each of them ends fails after eight seconds of continuous resets.
pub const TIMES_MAX: u32 = 16;

/// How long an I/O that a reset has ended waits for the end of resets that are under way, µs. It
/// does not wait longer, because a reset of another bdev may hang.
pub const WAIT_US: u64 = 1_000_000;

/// The last reset of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastReset {
    /// The backend was never reset.
    #[default]
    Never,
    /// A reset is under way.
    UnderWay,
    /// The last reset ended at this time, µs.
    Ended(u64),
}

impl LastReset {
    /// Returns true if a reset may have ended an I/O that was submitted at this time.
    pub fn may_have_ended(self, submitted_us: u64) -> bool {
        match self {
            LastReset::Never => false,
            LastReset::UnderWay => true,
            LastReset::Ended(at_us) => submitted_us <= at_us,
        }
    }
}

/// An I/O that the backend has failed.
#[derive(Debug, Clone, Copy)]
pub struct FailedIo {
    /// The operation.
    pub op: Op,
    /// The status with which the operation ended.
    pub status: Status,
    /// The time at which the operation was submitted, µs.
    pub submitted_us: u64,
    /// How often the operation was executed again.
    pub times: u32,
}

impl FailedIo {
    /// Returns true if the I/O is to be executed again: a reset may have ended it, and its session
    /// did not ask for that reset. `any` is the last reset of any backend of the target, `own` the
    /// last one that the I/O's session asked for.
    pub fn is_executed_again(&self, any: LastReset, own: LastReset) -> bool {
        let may_have_ended = any.may_have_ended(self.submitted_us) && !own.may_have_ended(self.submitted_us);
        let has_failed = matches!(self.status, Status::Failed | Status::Aborted);
        let may_repeat = self.op.describe().in_new_session != InNewSession::Fails
            || mutation::is_on(Mutation::ExecuteUnrepeatableAgain);
        let is_allowed = may_repeat && self.times < TIMES_MAX && !mutation::is_on(Mutation::ResetsEndOthers);
        let may_hide_loss = self.op == Op::Flush && self.status == Status::Failed;
        has_failed && !may_hide_loss && may_have_ended && is_allowed
    }
}

/// Returns true if an I/O that ended at `ended_us` may be submitted again.
pub fn is_due(any: LastReset, ended_us: u64, now_us: u64) -> bool {
    any != LastReset::UnderWay || now_us.saturating_sub(ended_us) >= WAIT_US
}

/// How often each of a queue's outstanding requests was executed again.
#[derive(Debug, Default)]
pub struct Repeats(Vec<(u64, u32)>);

impl Repeats {
    /// Returns how often the request with this id was executed again.
    pub fn of(&self, id: u64) -> u32 {
        self.0.iter().find(|(other, _)| *other == id).map_or(0, |&(_, times)| times)
    }

    /// Counts one more execution of a request. `is_outstanding` returns true for the requests whose
    /// counts are still needed; the others are forgotten.
    pub fn count(&mut self, id: u64, is_outstanding: impl Fn(u64) -> bool) {
        self.0.retain(|&(other, _)| is_outstanding(other));
        match self.0.iter_mut().find(|(other, _)| *other == id) {
            Some((_, times)) => *times += 1,
            None => self.0.push((id, 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BROKEN: FailedIo = FailedIo { op: Op::Write, status: Status::Aborted, submitted_us: 100, times: 0 };

    #[test]
    fn only_what_others_resets_may_have_ended_is_executed_again() {
        use LastReset::{Ended, Never, UnderWay};
        for (any, own, expected) in [
            (Never, Never, false),
            (UnderWay, Never, true),
            (Ended(100), Never, true),
            (Ended(99), Never, false),
            (UnderWay, UnderWay, false),
            (UnderWay, Ended(99), true),
            (Ended(200), Ended(150), false),
        ] {
            assert_eq!(BROKEN.is_executed_again(any, own), expected, "{any:?} {own:?}");
        }
    }

    #[test]
    fn what_must_not_be_done_twice_and_what_did_not_fail_is_answered() {
        let any = LastReset::UnderWay;
        for op in Op::ALL {
            let again = FailedIo { op, ..BROKEN }.is_executed_again(any, LastReset::Never);
            assert_eq!(again, op != Op::CompareAndWrite, "{op}");
        }
        for status in Status::ALL {
            let again = FailedIo { status, ..BROKEN }.is_executed_again(any, LastReset::Never);
            assert_eq!(again, [Status::Failed, Status::Aborted].contains(&status), "{status}");
            let flush = FailedIo { op: Op::Flush, status, ..BROKEN }.is_executed_again(any, LastReset::Never);
            assert_eq!(flush, status == Status::Aborted, "{status}");
        }
    }

    #[test]
    fn a_reset_that_hangs_does_not_keep_others_waiting() {
        assert!(!is_due(LastReset::UnderWay, 5, 4 + WAIT_US) && is_due(LastReset::UnderWay, 5, 5 + WAIT_US));
        assert!(is_due(LastReset::Ended(5), 5, 5) && is_due(LastReset::Never, 5, 5));
    }

    proptest! {
        /// Whatever is reset, and however often, each request comes to an end.
        #[test]
        fn each_request_is_executed_a_bounded_number_of_times(
            ids in proptest::collection::vec(1u64..5, 1..200),
        ) {
            let mut repeats = Repeats::default();
            let mut times = [0; 5];
            for id in ids {
                let io = FailedIo { times: repeats.of(id), ..BROKEN };
                if io.is_executed_again(LastReset::UnderWay, LastReset::Never) {
                    repeats.count(id, |_| true);
                    times[id as usize] += 1;
                }
            }
            prop_assert!(times.iter().all(|&times| times <= TIMES_MAX));
            repeats.count(9, |id| id == 9);
            prop_assert_eq!(repeats.0, vec![(9, 1)], "what is answered is forgotten");
        }
    }
}
