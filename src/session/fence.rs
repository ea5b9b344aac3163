//! Whether a client may fail what it sent on connections that are lost.
//!
//! A request that was sent may still be executed, by a target that is only slow to get to it. It
//! does not fail before that is out of the question: the target has let the client in again, which
//! it does only when nothing of the connections before is left, or the lease of the last one is
//! over.
//!
//! No lease covers what the backend has already. So before a request fails by a lease alone, the
//! whole session is given up: every channel leaves it, and the next one is opened when the backend
//! has nothing of this one any more. Whatever a user submits after the failure, on any thread,
//! comes after what failed.

use crate::mutation::{self, Mutation};

/// What stands between a channel's requests on lost connections and their failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fence {
    /// Nothing was sent yet, or a welcome has confirmed that nothing sent before it is executed any
    /// more.
    #[default]
    Confirmed,
    /// A connection was lost.
    Lease {
        /// The time after which the target executes no request sent on a lost connection.
        over_us: u64,
    },
}

/// What a channel has sent and has no answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing.
    Nothing,
    /// Requests that may go on waiting for a connection.
    MayWait,
    /// At least one request that has to fail.
    HasToFail,
}

/// How far the channels have left the session in which a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The session is the current one.
    NotBegun,
    /// The session was given up, and a channel may still have a connection of it.
    Begun,
    /// No channel has a connection of the session any more.
    Complete,
}

/// What a channel may do with the requests that it has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They may fail.
    Fail,
    /// They have to wait.
    Wait,
    /// They have to wait for the session to be given up.
    GiveUpSession,
}

impl Fence {
    /// Notes that a connection is lost whose lease is over at `over_us`. Returns the time at which
    /// the leases of all lost connections are over.
    pub fn lost(&mut self, over_us: u64) -> u64 {
        let over_us = match *self {
            Fence::Confirmed => over_us,
            Fence::Lease { over_us: before_us } => over_us.max(before_us),
        };
        *self = Fence::Lease { over_us };
        over_us
    }

    /// Returns what may be done with what was `sent`. `departure` is asked only if that decides.
    pub fn verdict(self, now_us: u64, sent: Sent, departure: impl FnOnce() -> Departure) -> Verdict {
        let Fence::Lease { over_us } = self else { return Verdict::Fail };
        if sent == Sent::Nothing || mutation::is_on(Mutation::NoLeaseAtClient) {
            return Verdict::Fail;
        }
        if sent == Sent::MayWait || now_us < over_us {
            return Verdict::Wait;
        }
        if mutation::is_on(Mutation::NoSessionGivenUp) {
            return Verdict::Fail;
        }
        match departure() {
            Departure::NotBegun => Verdict::GiveUpSession,
            Departure::Begun if mutation::is_on(Mutation::NoOthersLeft) => Verdict::Fail,
            Departure::Begun => Verdict::Wait,
            Departure::Complete => Verdict::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEPARTURES: [Departure; 3] = [Departure::NotBegun, Departure::Begun, Departure::Complete];

    fn unasked() -> Departure {
        panic!("the session does not matter")
    }

    #[test]
    fn a_welcome_lets_all_fail() {
        for sent in [Sent::Nothing, Sent::MayWait, Sent::HasToFail] {
            assert_eq!(Fence::Confirmed.verdict(0, sent, unasked), Verdict::Fail);
        }
    }

    #[test]
    fn a_lease_that_is_over_lets_fail_what_all_channels_have_left() {
        let fence = Fence::Lease { over_us: 100 };
        assert_eq!(fence.verdict(99, Sent::HasToFail, unasked), Verdict::Wait);
        assert_eq!(
            fence.verdict(100, Sent::MayWait, unasked),
            Verdict::Wait,
            "nothing forces the session's end"
        );
        let after = DEPARTURES.map(|departure| fence.verdict(100, Sent::HasToFail, || departure));
        assert_eq!(after, [Verdict::GiveUpSession, Verdict::Wait, Verdict::Fail]);
        assert_eq!(fence.verdict(0, Sent::Nothing, unasked), Verdict::Fail);
    }

    proptest! {
        /// Connections are lost in any order of their leases.
        #[test]
        fn nothing_fails_before_the_last_lease_is_over(
            leases in proptest::collection::vec(0u64..1000, 1..8),
            now in 0u64..1000,
            departure in proptest::sample::select(&DEPARTURES[..]),
        ) {
            let mut fence = Fence::default();
            let mut over = 0;
            for &lease in &leases {
                over = fence.lost(lease);
            }
            prop_assert_eq!(Some(over), leases.iter().copied().max());
            let verdict = fence.verdict(now, Sent::HasToFail, || departure);
            prop_assert_eq!(verdict == Verdict::Fail, now >= over && departure == Departure::Complete);
            prop_assert_eq!(verdict == Verdict::GiveUpSession, now >= over && departure == Departure::NotBegun);
        }
    }
}
