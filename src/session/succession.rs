//! The sessions that a client has with its target, one after the other.
//!
//! A session that is given up is followed by another one. Its channels may still have requests at
//! the target of the session before. So the next session is open to them only when the target knows
//! that nothing of the one before is left, or, if it can't know that, when the leases of all lost
//! connections are over.

use dst_wire::Previous;

use crate::mutation::{self, Mutation};

/// A session as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: [u8; 16],
    /// Which of the target's starts it belongs to, as [`crate::durability::Durability`] counts
    /// them.
    pub start: u64,
}

/// The session that a client has, or asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Succession {
    /// No session was opened yet.
    #[default]
    First,
    /// The session was given up; the next one takes its place.
    GivenUp(Previous),
    /// The next one was opened. Channels may not join it yet, because of what they sent in the one
    /// before.
    HeldBack {
        /// The session.
        next: Session,
        /// The one before.
        previous: Previous,
    },
    /// Channels may join the session.
    Open(Session),
}

/// What a control connection's hello asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A new session, in place of the previous one.
    Open(Option<Previous>),
    /// The session with this id.
    Join([u8; 16]),
}

impl Succession {
    /// Returns what the next hello of the control connection asks for. There is no connection.
    pub fn ask(&self) -> Ask {
        match *self {
            Succession::First => Ask::Open(None),
            Succession::GivenUp(previous) | Succession::HeldBack { previous, .. } => {
                Ask::Open(Some(previous))
            }
            Succession::Open(session) => Ask::Join(session.id),
        }
    }

    /// A welcome to a new session came. Returns whether channels may join it: the target says that
    /// nothing of the previous session is left (`previous_ended`), or there was none.
    pub fn opened(&mut self, next: Session, previous_ended: bool) -> bool {
        *self = match *self {
            Succession::GivenUp(previous) | Succession::HeldBack { previous, .. } if !previous_ended => {
                Succession::HeldBack { next, previous }
            }
            _ => Succession::Open(next),
        };
        matches!(self, Succession::Open(_))
    }

    /// The control connection is lost. A session that is held back is given up with it; one that
    /// channels have joined is not.
    pub fn lost(&mut self) {
        if let Succession::HeldBack { previous, .. } = *self {
            *self = Succession::GivenUp(previous);
        }
    }

    /// The session that channels may join, if there is one, is given up; it was opened in this
    /// start (`instance`) of the target. Returns whether there was one.
    pub fn give_up(&mut self, instance: [u8; 16]) -> bool {
        let Succession::Open(session) = *self else { return false };
        *self = Succession::GivenUp(Previous { session: session.id, instance });
        true
    }

    /// Returns the session that was held back, if channels may join it now. `leases_are_over` says
    /// whether the target executes nothing any more that was sent on a lost connection.
    pub fn release(&mut self, leases_are_over: impl FnOnce() -> bool) -> Option<Session> {
        let Succession::HeldBack { next, .. } = *self else { return None };
        let may_join = leases_are_over() || mutation::is_on(Mutation::NoLeaseAtFailover);
        may_join.then(|| {
            *self = Succession::Open(next);
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session(id: u8) -> Session {
        Session { id: [id; 16], start: 1 }
    }

    fn previous(id: u8) -> Previous {
        Previous { session: [id; 16], instance: [9; 16] }
    }

    #[test]
    fn the_first_session_waits_for_nothing() {
        let mut succession = Succession::default();
        assert_eq!(succession.ask(), Ask::Open(None));
        assert!(!succession.give_up([9; 16]) && succession.release(|| true).is_none());
        assert!(succession.opened(session(1), false));
        succession.lost();
        assert_eq!(succession.ask(), Ask::Join([1; 16]), "it goes on without its control connection");
    }

    #[test]
    fn the_next_session_waits_for_the_end_of_the_one_before() {
        let mut succession = Succession::Open(session(1));
        assert!(succession.give_up([9; 16]) && !succession.give_up([9; 16]));
        assert_eq!(succession.ask(), Ask::Open(Some(previous(1))));
        let mut ended = succession;
        assert!(ended.opened(session(2), true) && ended == Succession::Open(session(2)));
        assert!(!succession.opened(session(2), false));
        assert_eq!(succession.release(|| false), None);
        assert_eq!(succession.release(|| true), Some(session(2)));
        assert_eq!(succession.ask(), Ask::Join([2; 16]));
    }

    #[test]
    fn a_session_that_nobody_could_join_is_not_the_previous_one() {
        let mut succession = Succession::GivenUp(previous(1));
        succession.opened(session(2), false);
        assert!(!succession.give_up([9; 16]), "no channel has sent anything in it");
        succession.lost();
        assert_eq!(succession.ask(), Ask::Open(Some(previous(1))));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Welcome { previous_ended: bool },
        Lose,
        GiveUp,
        Look { leases_are_over: bool },
    }

    const STEPS: [Step; 6] = [
        Step::Welcome { previous_ended: true },
        Step::Welcome { previous_ended: false },
        Step::Lose,
        Step::GiveUp,
        Step::Look { leases_are_over: true },
        Step::Look { leases_are_over: false },
    ];

    proptest! {
        #[test]
        fn channels_join_only_what_comes_after_the_end_of_the_one_before(
            steps in proptest::collection::vec(proptest::sample::select(&STEPS[..]), 0..60),
        ) {
            let mut succession = Succession::default();
            // The last session that channels could join, and the one that they can join.
            let (mut last, mut current): (Option<Session>, Option<Session>) = (None, None);
            for (id, step) in (1..).zip(steps) {
                match step {
                    Step::Welcome { previous_ended } => match succession.ask() {
                        Ask::Join(joined) => prop_assert_eq!(Some(joined), current.map(|session| session.id)),
                        Ask::Open(previous) => {
                            prop_assert_eq!(previous.map(|previous| previous.session), last.map(|last| last.id));
                            if succession.opened(session(id), previous_ended) {
                                prop_assert!(previous_ended || last.is_none());
                                current = Some(session(id));
                            }
                        }
                    },
                    Step::Lose => succession.lost(),
                    Step::GiveUp => {
                        prop_assert_eq!(succession.give_up([9; 16]), current.is_some());
                        last = current.take().or(last);
                    }
                    Step::Look { leases_are_over } => {
                        if let Some(released) = succession.release(|| leases_are_over) {
                            prop_assert!(leases_are_over && current.is_none());
                            current = Some(released);
                        }
                    }
                }
                prop_assert_eq!(matches!(succession, Succession::Open(_)), current.is_some());
            }
        }
    }
}
