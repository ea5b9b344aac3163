//! How long a client waits for a target that it can't reach.
//!
//! An *outage* begins when a client has lost its last connection, and ends when it has one again.
//! All times are those of a [`Patience`](crate::patience::Patience): while the process does not
//! run, it does not look for its target either.

use thiserror::Error;

use crate::mutation::{self, Mutation};

/// How long an outage may last before something is done about it. 0 means for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutageLimits {
    /// The length of an outage from which on I/O fails at once, ms.
    pub fast_io_fail_ms: u32,
    /// The length of an outage after which the bdev is removed, ms.
    pub loss_ms: u32,
}

/// Why limits contradict each other or the delay between attempts to reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LimitsError {
    /// I/O would fail before the target was tried a second time.
    #[error("{fast_ms} is less than reconnect_delay_ms, {delay_ms}: give at least that, or 0 for never")]
    FastBeforeRetry {
        /// The value of `fast_io_fail_timeout_ms`.
        fast_ms: u32,
        /// The value of `reconnect_delay_ms`.
        delay_ms: u32,
    },
    /// The bdev would be removed before the target was tried a second time.
    #[error("{loss_ms} is less than reconnect_delay_ms, {delay_ms}: give at least that, or 0 for never")]
    LossBeforeRetry {
        /// The value of `loss_timeout_ms`.
        loss_ms: u32,
        /// The value of `reconnect_delay_ms`.
        delay_ms: u32,
    },
    /// The bdev would be removed before its I/O fails at once.
    #[error("{loss_ms} is less than fast_io_fail_timeout_ms, {fast_ms}: give at least that, or 0 for never")]
    LossBeforeFast {
        /// The value of `loss_timeout_ms`.
        loss_ms: u32,
        /// The value of `fast_io_fail_timeout_ms`.
        fast_ms: u32,
    },
}

impl OutageLimits {
    /// Checks that a delay between attempts to reconnect, ms, fits to these limits.
    ///
    /// # Errors
    /// A limit is shorter than what has to come before it.
    pub fn check(self, delay_ms: u32) -> Result<(), LimitsError> {
        let OutageLimits { fast_io_fail_ms: fast_ms, loss_ms } = self;
        if fast_ms > 0 && fast_ms < delay_ms {
            return Err(LimitsError::FastBeforeRetry { fast_ms, delay_ms });
        }
        if loss_ms > 0 && loss_ms < delay_ms {
            return Err(LimitsError::LossBeforeRetry { loss_ms, delay_ms });
        }
        if loss_ms > 0 && loss_ms < fast_ms {
            return Err(LimitsError::LossBeforeFast { loss_ms, fast_ms });
        }
        Ok(())
    }
}

/// The state of a client's connections, all of them taken together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outage {
    /// The client has a connection.
    #[default]
    None,
    /// The client has no connection; I/O waits.
    Waiting {
        /// When the outage was first seen, µs.
        since_us: u64,
    },
    /// The client has no connection; I/O fails at once.
    FailingFast {
        /// When the outage was first seen, µs.
        since_us: u64,
    },
    /// The client has given its target up for good.
    Lost,
}

/// What a client has to do because of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutageNews {
    /// I/O fails at once from now on.
    FailFast,
    /// I/O waits again, as the outage has ended.
    Back,
    /// The bdev is to be removed. Nothing follows this.
    Lost,
}

impl Outage {
    /// Looks at the connections at `now_us`. Returns what has to be done, if anything changed that
    /// matters to I/O or to the bdev.
    pub fn turn(&mut self, limits: OutageLimits, has_connection: bool, now_us: u64) -> Option<OutageNews> {
        let since_us = match *self {
            Outage::Lost => return None,
            Outage::None => now_us,
            Outage::Waiting { since_us } | Outage::FailingFast { since_us } => since_us,
        };
        if has_connection {
            let before = std::mem::take(self);
            return matches!(before, Outage::FailingFast { .. }).then_some(OutageNews::Back);
        }
        let lasted_us = now_us.saturating_sub(since_us);
        if has_passed(limits.loss_ms, lasted_us) && !mutation::is_on(Mutation::NoLossTimeout) {
            *self = Outage::Lost;
            return Some(OutageNews::Lost);
        }
        if matches!(self, Outage::FailingFast { .. }) {
            return None;
        }
        let fails = has_passed(limits.fast_io_fail_ms, lasted_us)
            || limits.fast_io_fail_ms > 0 && mutation::is_on(Mutation::FailsTooFast);
        if fails && !mutation::is_on(Mutation::NoFastFail) {
            *self = Outage::FailingFast { since_us };
            return Some(OutageNews::FailFast);
        }
        *self = Outage::Waiting { since_us };
        None
    }

    /// Returns whether I/O fails at once.
    pub fn fails_fast(self) -> bool {
        matches!(self, Outage::FailingFast { .. })
    }
}

fn has_passed(limit_ms: u32, lasted_us: u64) -> bool {
    limit_ms > 0 && lasted_us >= u64::from(limit_ms) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(fast_io_fail_ms: u32, loss_ms: u32) -> OutageLimits {
        OutageLimits { fast_io_fail_ms, loss_ms }
    }

    #[test]
    fn limits_follow_each_other() {
        for good in [limits(0, 0), limits(500, 0), limits(500, 500), limits(0, 500), limits(600, 700)] {
            assert_eq!(good.check(500), Ok(()), "{good:?}");
        }
        let text = |limits: OutageLimits| limits.check(500).unwrap_err().to_string();
        assert!(text(limits(499, 0)).starts_with("499 is less than reconnect_delay_ms, 500"));
        assert!(text(limits(0, 499)).starts_with("499 is less than reconnect_delay_ms, 500"));
        assert!(text(limits(900, 800)).starts_with("800 is less than fast_io_fail_timeout_ms, 900"));
    }

    #[test]
    fn io_fails_at_once_after_its_time_and_the_bdev_goes_after_another() {
        let mut outage = Outage::default();
        let mut at = |has_connection, now_us| outage.turn(limits(10, 30), has_connection, now_us);
        assert_eq!(at(true, 0), None);
        assert_eq!(at(false, 5_000), None);
        assert_eq!(at(false, 14_999), None);
        assert_eq!(at(false, 15_000), Some(OutageNews::FailFast));
        assert_eq!(at(false, 16_000), None);
        assert_eq!(at(true, 17_000), Some(OutageNews::Back));
        assert_eq!(at(false, 18_000), None);
        assert_eq!(at(true, 19_000), None);
        assert_eq!(at(false, 20_000), None);
        assert_eq!(at(false, 30_000), Some(OutageNews::FailFast));
        assert_eq!(at(false, 49_999), None);
        assert_eq!(at(false, 50_000), Some(OutageNews::Lost));
        assert_eq!(at(true, 60_000), None);
    }

    #[test]
    fn without_limits_io_waits_for_ever() {
        let mut outage = Outage::default();
        assert_eq!(outage.turn(limits(0, 0), false, 0), None);
        assert_eq!(outage.turn(limits(0, 0), false, u64::MAX), None);
    }

    proptest! {
        /// A model that remembers when there was a connection last.
        #[test]
        fn it_is_time_that_decides(
            fast in prop_oneof![Just(0u32), 1u32..50],
            beyond in prop_oneof![Just(None), (0u32..50).prop_map(Some)],
            turns in proptest::collection::vec((0u64..20_000, proptest::bool::weighted(0.2)), 1..60),
        ) {
            let limits = limits(fast, beyond.map_or(0, |beyond| (fast + beyond).max(1)));
            let mut outage = Outage::default();
            let (mut now, mut began, mut is_lost) = (0, None, false);
            for (pass, has_connection) in turns {
                now += pass;
                let failed_before = outage.fails_fast();
                let news = outage.turn(limits, has_connection, now);
                if is_lost {
                    prop_assert_eq!(news, None);
                    continue;
                }
                if has_connection { began = None } else { began.get_or_insert(now); }
                let lasted = began.map_or(0, |began| now - began);
                let over = |ms: u32| ms > 0 && began.is_some() && lasted >= u64::from(ms) * 1000;
                is_lost = over(limits.loss_ms);
                prop_assert_eq!(news == Some(OutageNews::Lost), is_lost);
                let fails = !is_lost && over(fast);
                prop_assert_eq!(outage.fails_fast(), fails);
                prop_assert_eq!(news == Some(OutageNews::FailFast), fails && !failed_before);
                prop_assert_eq!(news == Some(OutageNews::Back), has_connection && failed_before);
            }
        }
    }
}
