//! Who waits for an attach, and until when.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::Error;

/// Called when an attach has ended, or goes on without the caller.
pub type Attached = Box<dyn FnOnce(Result<String, Error>)>;

/// When `bdev_dst_create` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// When the bdev is attached, or can't be.
    UntilAttached,
    /// When the first attempt has ended, or has taken long; the attempts go on.
    FirstAttempt,
    /// At once.
    No,
}

/// Calls something when its last owner drops it: when the last first attempt has ended.
pub struct FirstAttempts(Cell<Option<Box<dyn FnOnce()>>>);

impl FirstAttempts {
    /// Returns what calls `done`.
    pub fn new(done: impl FnOnce() + 'static) -> Rc<FirstAttempts> {
        Rc::new(FirstAttempts(Cell::new(Some(Box::new(done)))))
    }
}

impl Drop for FirstAttempts {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}

/// An attach.
pub enum Attach {
    /// The caller waits.
    Caller {
        /// What is called.
        waiting: Attached,
        /// Whether the call says that the bdev is attached, rather than that the first attempt has
        /// ended.
        until_attached: bool,
        /// When the caller waits no longer, µs.
        deadline_us: u64,
    },
    /// The caller was answered, and the first attempt goes on.
    First {
        /// When it counts as ended, µs.
        deadline_us: u64,
        /// Those who wait for its end.
        waiting: Vec<Rc<FirstAttempts>>,
    },
    /// Nobody waits.
    Over,
}

/// What the addresses that were tried in a round have said. An address that is dead or silent says
/// nothing: it does not keep the attach waiting for what another one has refused for good.
#[derive(Debug, Default)]
pub enum Round {
    /// Nothing.
    #[default]
    Silent,
    /// At least one has refused for good, the last one for this reason, and no other may admit the
    /// client later.
    Refused(String),
    /// One may admit the client later.
    MayHelp,
}

impl Round {
    /// Notes a refusal. `is_final` says that the target refused for good.
    pub fn refused(&mut self, is_final: bool, why: &str) {
        match self {
            Round::MayHelp => {}
            Round::Silent | Round::Refused(_) if is_final => *self = Round::Refused(why.to_owned()),
            Round::Silent | Round::Refused(_) => *self = Round::MayHelp,
        }
    }

    /// Ends the round, and begins the next one. Returns the reason if the client was refused for
    /// good.
    pub fn end(&mut self) -> Option<String> {
        match std::mem::take(self) {
            Round::Refused(why) => Some(why),
            Round::Silent | Round::MayHelp => None,
        }
    }
}

/// What is due in an attach whose bdev is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The caller is to be answered: the attempts go on.
    Answer,
    /// The attach has failed.
    GiveUp,
}

impl Attach {
    /// Looks at an attempt that goes on at `now_us`.
    pub fn look(&mut self, now_us: u64) -> Due {
        match *self {
            Attach::Caller { until_attached, deadline_us, .. } if now_us >= deadline_us => {
                if until_attached {
                    Due::GiveUp
                } else {
                    Due::Answer
                }
            }
            Attach::First { deadline_us, .. } if now_us >= deadline_us => {
                self.end_first();
                Due::Nothing
            }
            _ => Due::Nothing,
        }
    }

    /// All addresses were tried. `is_final` says that the target refused for good.
    pub fn all_tried(&mut self, is_final: bool) -> Due {
        match self {
            Attach::Caller { until_attached: false, .. } => Due::Answer,
            Attach::Caller { .. } if is_final => Due::GiveUp,
            Attach::First { .. } => {
                self.end_first();
                Due::Nothing
            }
            _ => Due::Nothing,
        }
    }

    fn end_first(&mut self) {
        *self = Attach::Over;
    }

    /// Ends the waiting. Returns what is to be called, by a caller that borrows nothing.
    pub fn take(&mut self) -> Option<Attached> {
        match std::mem::replace(self, Attach::Over) {
            Attach::Caller { waiting, .. } => Some(waiting),
            Attach::First { .. } | Attach::Over => None,
        }
    }

    /// Has the first attempt go on without the caller. Returns what is to be called.
    pub fn go_on_alone(&mut self) -> Option<Attached> {
        let Attach::Caller { deadline_us, .. } = *self else { return None };
        let waiting = self.take();
        *self = Attach::First { deadline_us, waiting: Vec::new() };
        waiting
    }

    /// Has `all` end not before the first attempt has, if that goes on without a caller.
    pub fn join(&mut self, all: &Rc<FirstAttempts>) {
        if let Attach::First { waiting, .. } = self {
            waiting.push(Rc::clone(all));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(until_attached: bool) -> Attach {
        Attach::Caller { waiting: Box::new(|_| {}), until_attached, deadline_us: 10 }
    }

    #[test]
    fn a_caller_who_waits_for_the_bdev_is_told_of_the_end_and_others_of_the_first_attempt() {
        assert_eq!((caller(true).look(9), caller(true).look(10)), (Due::Nothing, Due::GiveUp));
        assert_eq!((caller(false).look(9), caller(false).look(10)), (Due::Nothing, Due::Answer));
        assert_eq!(
            (caller(true).all_tried(false), caller(true).all_tried(true)),
            (Due::Nothing, Due::GiveUp)
        );
        assert_eq!(
            (caller(false).all_tried(false), caller(false).all_tried(true)),
            (Due::Answer, Due::Answer)
        );
    }

    #[test]
    fn a_dead_address_does_not_hide_that_another_one_refuses() {
        let end = |refusals: &[bool]| {
            let mut round = Round::default();
            refusals.iter().for_each(|&is_final| round.refused(is_final, "no"));
            let why = round.end();
            assert_eq!(round.end(), None, "the next round begins anew");
            why.is_some_and(|why| why == "no")
        };
        assert!(!end(&[]), "all are dead");
        assert!(end(&[true]) && end(&[true, true]));
        assert!(!end(&[true, false]) && !end(&[false, true]) && !end(&[false]), "one is only busy");
    }

    #[test]
    fn the_last_first_attempt_that_ends_is_the_end_of_all() {
        let ended = Rc::new(Cell::new(false));
        let mut attaches = [caller(false), caller(false), caller(true)];
        for attach in &mut attaches[..2] {
            assert!(attach.go_on_alone().is_some());
        }
        let tell = Rc::clone(&ended);
        let all = FirstAttempts::new(move || tell.set(true));
        attaches.iter_mut().for_each(|attach| attach.join(&all));
        drop(all);
        assert_eq!((attaches[0].look(9), ended.get()), (Due::Nothing, false));
        assert_eq!((attaches[0].look(10), ended.get()), (Due::Nothing, false));
        assert_eq!((attaches[1].all_tried(false), ended.get()), (Due::Nothing, true));
    }

    #[test]
    fn without_a_first_attempt_nobody_waits() {
        let ended = Rc::new(Cell::new(false));
        let tell = Rc::clone(&ended);
        drop(FirstAttempts::new(move || tell.set(true)));
        assert!(ended.get());
    }
}
