//! A channel's place in the session, and what keeps it from failing what it has sent.

use std::sync::Arc;

use dst_session::fence::{Departure, Fence, Sent, Verdict};
use dst_session::succession::Session;

use crate::channels::Standing;
use crate::shared::Shared;

/// A channel's place in the session.
pub struct Membership {
    shared: Arc<Shared>,
    standing: Arc<Standing>,
    /// The session in which the outstanding transactions were sent last.
    session: Option<Session>,
    /// The count of changes of the session that this one was seen with.
    change: u64,
    fence: Fence,
}

impl Membership {
    /// Returns the membership of a channel that has joined nothing yet.
    pub fn new(shared: &Arc<Shared>, standing: &Arc<Standing>) -> Membership {
        Membership {
            shared: Arc::clone(shared),
            standing: Arc::clone(standing),
            session: None,
            change: shared.session_changes(),
            fence: Fence::default(),
        }
    }

    /// Returns the session in which the channel was last.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Returns whether the session is the one in which the channel has its connection. HOT.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.shared.session_changes() == self.change
    }

    /// Tells the others that the channel has no connection of any session.
    pub fn leave(&self) {
        self.standing.leave(self.shared.session_changes());
    }

    /// Takes note of a change of the session. Returns whether there was one.
    pub fn note_change(&mut self) -> bool {
        let change = self.shared.session_changes();
        std::mem::replace(&mut self.change, change) != change
    }

    /// The target let the channel into a session. Returns the one in which it was before.
    pub fn join(&mut self, session: Session) -> Option<Session> {
        self.fence = Fence::Confirmed;
        self.session.replace(session)
    }

    /// A connection is lost whose lease is over at `over_us`. Returns the time at which all leases
    /// are over.
    pub fn lost(&mut self, over_us: u64) -> u64 {
        self.fence.lost(over_us)
    }

    /// Returns whether what was `sent` may fail. If something has to, and the session is in the
    /// way, control is asked to give it up.
    pub fn may_fail(&self, now_us: u64, sent: Sent) -> bool {
        match self.fence.verdict(now_us, sent, || self.departure()) {
            Verdict::Fail => true,
            Verdict::Wait => false,
            Verdict::GiveUpSession => {
                self.shared.ask_to_give_up();
                false
            }
        }
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
    use crate::options::{Options, Peer};
    use crate::places::TargetPlaces;

    const SESSION: Session = Session { id: [1; 16], start: 1 };

    fn shared() -> Arc<Shared> {
        let peer = Peer {
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
        let shared = Arc::new(Shared::new("bdev".to_owned(), peer, Options::default(), Arc::default()));
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
        assert!(!a.may_fail(99, Sent::HasToFail) && !shared.take_give_up(), "the lease decides");
        assert!(!a.may_fail(100, Sent::HasToFail) && shared.take_give_up(), "control is asked");
        shared.set_session(None);
        a.leave();
        assert!(!a.may_fail(100, Sent::HasToFail) && !shared.take_give_up(), "the other has not left");
        b.leave();
        assert!(a.may_fail(100, Sent::HasToFail));
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
