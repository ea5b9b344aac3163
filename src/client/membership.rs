//! A channel's membership in the session, and the fence that keeps the channel from failing I/O
//! that the target may still execute.

use std::sync::Arc;

use dst_session::fence::{Departure, Fence, Sent, Verdict};
use dst_session::succession::Session;

use crate::channels::Standing;
use crate::shared::Shared;

/// A channel's membership in the session.
pub struct Membership {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    /// The session in which the outstanding transactions were sent last.
    session: Option<Session>,
    /// The number of changes of the session that the channel has seen.
    change: u64,
    fence: Fence,
}

impl Membership {
    /// Returns the membership of a channel that has not joined a session yet.
    pub fn new(shared: &Arc<Shared>, standing: &Arc<Standing>) -> Membership {
        Membership {
            shared: Arc::clone(shared),
            standing: Arc::clone(standing),
            session: None,
            change: shared.session_changes(),
            fence: Fence::default(),
        }
    }

    /// Returns the last session that the channel has joined.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Returns true if the channel's connection belongs to the present session. HOT.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.shared.session_changes() == self.change
    }

    /// Tells the other channels that this one has no connection.
    pub fn leave(&self) {
        self.standing.leave(self.shared.session_changes());
    }

    /// Notes changes of the session. Returns true if there was one.
    pub fn note_change(&mut self) -> bool {
        let change = self.shared.session_changes();
        std::mem::replace(&mut self.change, change) != change
    }

    /// Returns the present session if it has this id, which a Welcome to the channel names.
    pub fn admitted(&self, id: &[u8; 16]) -> Option<Session> {
        self.shared.join_session(id, &self.standing)
    }

    /// Notes that the target has admitted the channel to a session. Returns the previous one.
    pub fn join(&mut self, session: Session) -> Option<Session> {
        self.fence = Fence::Confirmed;
        self.session.replace(session)
    }

    /// Notes the loss of a connection whose lease ends at `over_us`. Returns the time at which all
    /// the channel's leases have ended.
    pub fn lost(&mut self, over_us: u64) -> u64 {
        self.fence.lost(over_us)
    }

    /// Returns true if the I/O that was `sent` may fail. If some of it has to fail but may not as
    /// long as the session exists, asks the control connection to give the session up.
    pub fn may_fail(&self, now_us: u64, sent: Sent) -> bool {
        let verdict = self.fence.verdict(now_us, sent, || self.departure());
        let asks = verdict == Verdict::GiveUpSession;
        self.standing.ask_to_give_up(asks);
        if asks {
            self.shared.ask_to_give_up();
        }
        verdict == Verdict::Fail
    }

    fn departure(&self) -> Departure {
        let session = self.session.expect("what was sent was sent in a session");
        match self.shared.left_since(session) {
            None => Departure::NotBegun,
            Some(change) => {
                let standings = self.shared.channels().standings();
                let all_left = standings.iter().all(|standing| standing.has_left(change));
                if all_left { Departure::Complete } else { Departure::Begun }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dst_session::paths::PathPolicy;

    use super::*;
    use crate::options::{Options, TargetParams};
    use crate::places::TargetPlaces;

    const SESSION: Session = Session { id: [1; 16], start: 1 };

    fn shared() -> Arc<Shared> {
        let target = TargetParams {
            at: TargetPlaces {
                places: vec!["192.0.2.1".parse().unwrap()],
                port: 1,
                family: None,
                policy: PathPolicy::Failover,
            },
            export: "disk".to_owned(),
            host: "client".to_owned(),
            digests: Vec::new(),
            key: None,
            ciphers: Vec::new(),
            sock_impl: None,
            exclusive: false,
        };
        let shared = Arc::new(Shared::new("bdev".to_owned(), target, Options::default(), Arc::default()));
        shared.set_session(Some(SESSION));
        shared
    }

    /// A channel that is in the session.
    fn member(shared: &Arc<Shared>) -> Membership {
        let (_, standing) = shared.channels().open(0).unwrap();
        let mut member = Membership::new(shared, &standing);
        assert_eq!(member.join(SESSION), None);
        member
    }

    #[test]
    fn what_was_sent_fails_when_every_channel_has_left_the_session() {
        let shared = shared();
        let (mut a, b) = (member(&shared), member(&shared));
        assert_eq!(a.lost(100), 100);
        a.leave();
        assert!(!a.may_fail(99, Sent::HasToFail) && !shared.give_up_if_asked(), "the lease decides");
        assert!(!a.may_fail(100, Sent::HasToFail) && shared.give_up_if_asked(), "control is asked");
        assert_eq!(shared.session(), None);
        a.leave();
        assert!(!a.may_fail(100, Sent::HasToFail) && !shared.give_up_if_asked(), "the other has not left");
        b.leave();
        assert!(a.may_fail(100, Sent::HasToFail));
    }

    /// Otherwise a compare-and-write that is sent after that would fail with the session.
    #[test]
    fn a_session_is_not_given_up_for_a_channel_that_was_admitted_to_it_meanwhile() {
        let shared = shared();
        let (mut a, mut b) = (member(&shared), member(&shared));
        for channel in [&mut a, &mut b] {
            channel.lost(100);
            assert!(!channel.may_fail(100, Sent::HasToFail));
        }
        assert_eq!(a.admitted(&SESSION.id), Some(SESSION));
        assert_eq!(b.admitted(&[2; 16]), None, "another session's Welcome is too late");
        assert!(shared.give_up_if_asked(), "b still asks");
        shared.set_session(Some(SESSION));
        assert!(!b.may_fail(100, Sent::HasToFail));
        assert_eq!(b.admitted(&SESSION.id), Some(SESSION));
        assert!(!shared.give_up_if_asked() && shared.session() == Some(SESSION));
        // What had to fail may wait again.
        assert!(!b.may_fail(100, Sent::HasToFail) && !b.may_fail(100, Sent::MayWait));
        assert!(!shared.give_up_if_asked());
    }

    #[test]
    fn a_change_of_the_session_is_noted_once() {
        let shared = shared();
        let mut a = member(&shared);
        assert!(a.is_current() && !a.note_change());
        shared.set_session(None);
        assert!(!a.is_current() && a.note_change() && !a.note_change() && a.is_current());
    }

    #[test]
    fn a_welcome_confirms_the_fence() {
        let shared = shared();
        let mut a = member(&shared);
        a.lost(100);
        assert!(!a.may_fail(0, Sent::MayWait));
        assert_eq!(a.join(Session { id: [2; 16], start: 1 }), Some(SESSION));
        assert!(a.may_fail(0, Sent::HasToFail));
    }
}
