//! The callers that wait for an attach, and how long they wait.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::Error;

/// The callback for the outcome of an attach, or for the moment from which the attach continues
/// without the caller.
pub type Attached = Box<dyn FnOnce(Result<String, Error>)>;

/// When `bdev_dst_create` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// When the bdev is attached or the attach has failed.
    UntilAttached,
    /// When the first attempt has ended, or after a short time at the latest. The attempts
    /// continue.
    FirstAttempt,
    /// At once. The attempts continue.
    No,
}

/// Calls a function when the last first attempt has ended. Each attach whose first attempt is under
/// way holds a reference; the function is called when the last reference is dropped.
pub struct FirstAttempts(Cell<Option<Box<dyn FnOnce()>>>);

impl FirstAttempts {
    /// Returns a reference. `done` is called when it and all its clones are dropped.
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

/// An attach, by what waits for it.
pub enum Attach {
    /// The caller waits.
    Caller {
        /// The caller's callback.
        waiting: Attached,
        /// Whether the caller waits until the bdev is attached, and not only for the end of the
        /// first attempt.
        until_attached: bool,
        /// The time until which the caller waits, µs.
        deadline_us: u64,
    },
    /// The caller was answered, and the first attempt goes on.
    First {
        /// The time at which the first attempt counts as ended, µs.
        deadline_us: u64,
        /// References that are dropped at the end of the first attempt.
        waiting: Vec<Rc<FirstAttempts>>,
    },
    /// Nothing waits.
    Over,
}

/// The refusals of one round of attempts, in which each address is tried once. An address that is
/// dead or silent does not count: it must not delay the attach if another one has refused for good.
#[derive(Debug, Default)]
pub enum AttemptRound {
    /// No address has refused.
    #[default]
    Silent,
    /// All refusals are final. This is the reason of the last one.
    Refused(String),
    /// At least one address has refused and may admit the client later.
    MayHelp,
}

impl AttemptRound {
    /// Notes a refusal. `is_final` says that the target refused for good.
    pub fn refused(&mut self, is_final: bool, why: &str) {
        match self {
            AttemptRound::MayHelp => {}
            AttemptRound::Silent | AttemptRound::Refused(_) if is_final => {
                *self = AttemptRound::Refused(why.to_owned())
            }
            AttemptRound::Silent | AttemptRound::Refused(_) => *self = AttemptRound::MayHelp,
        }
    }

    /// Ends the round and begins the next one. Returns the reason if the client was refused for
    /// good.
    pub fn end(&mut self) -> Option<String> {
        match std::mem::take(self) {
            AttemptRound::Refused(why) => Some(why),
            AttemptRound::Silent | AttemptRound::MayHelp => None,
        }
    }
}

/// What is due in an attach that has no bdev yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachDue {
    /// Nothing.
    Nothing,
    /// The caller is to be answered, and the attempts continue.
    Answer,
    /// The attach has failed.
    GiveUp,
}

impl Attach {
    /// Returns what is due at `now_us` while an attempt goes on.
    pub fn look(&mut self, now_us: u64) -> AttachDue {
        match *self {
            Attach::Caller { until_attached, deadline_us, .. } if now_us >= deadline_us => {
                if until_attached {
                    AttachDue::GiveUp
                } else {
                    AttachDue::Answer
                }
            }
            Attach::First { deadline_us, .. } if now_us >= deadline_us => {
                self.end_first();
                AttachDue::Nothing
            }
            _ => AttachDue::Nothing,
        }
    }

    /// Returns what is due after a round in which all addresses were tried. `is_final` says that
    /// the client was refused for good.
    pub fn all_tried(&mut self, is_final: bool) -> AttachDue {
        match self {
            Attach::Caller { until_attached: false, .. } => AttachDue::Answer,
            Attach::Caller { .. } if is_final => AttachDue::GiveUp,
            Attach::First { .. } => {
                self.end_first();
                AttachDue::Nothing
            }
            _ => AttachDue::Nothing,
        }
    }

    fn end_first(&mut self) {
        *self = Attach::Over;
    }

    /// Ends the waiting. Returns the callback, which must be called while nothing is borrowed.
    pub fn take(&mut self) -> Option<Attached> {
        match std::mem::replace(self, Attach::Over) {
            Attach::Caller { waiting, .. } => Some(waiting),
            Attach::First { .. } | Attach::Over => None,
        }
    }

    /// Lets the first attempt go on without the caller. Returns the caller's callback.
    pub fn go_on_alone(&mut self) -> Option<Attached> {
        let Attach::Caller { deadline_us, .. } = *self else { return None };
        let waiting = self.take();
        *self = Attach::First { deadline_us, waiting: Vec::new() };
        waiting
    }

    /// Keeps `all` alive until the first attempt has ended, if it goes on without a caller.
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
        assert_eq!((caller(true).look(9), caller(true).look(10)), (AttachDue::Nothing, AttachDue::GiveUp));
        assert_eq!((caller(false).look(9), caller(false).look(10)), (AttachDue::Nothing, AttachDue::Answer));
        assert_eq!(
            (caller(true).all_tried(false), caller(true).all_tried(true)),
            (AttachDue::Nothing, AttachDue::GiveUp)
        );
        assert_eq!(
            (caller(false).all_tried(false), caller(false).all_tried(true)),
            (AttachDue::Answer, AttachDue::Answer)
        );
    }

    #[test]
    fn a_dead_address_does_not_hide_that_another_one_refuses() {
        let end = |refusals: &[bool]| {
            let mut round = AttemptRound::default();
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
        assert_eq!((attaches[0].look(9), ended.get()), (AttachDue::Nothing, false));
        assert_eq!((attaches[0].look(10), ended.get()), (AttachDue::Nothing, false));
        assert_eq!((attaches[1].all_tried(false), ended.get()), (AttachDue::Nothing, true));
    }

    #[test]
    fn without_a_first_attempt_nobody_waits() {
        let ended = Rc::new(Cell::new(false));
        let tell = Rc::clone(&ended);
        drop(FirstAttempts::new(move || tell.set(true)));
        assert!(ended.get());
    }
}
