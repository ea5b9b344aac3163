//! Questions to all groups, and the collection of their answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use dst_broker::{ConnectionActivity, ConnectionId, Reported};

/// The callback for the answers of all groups.
type Done = Box<dyn FnOnce(Reported)>;

struct Question {
    /// The number of groups that have not answered.
    missing: usize,
    counts: Reported,
    done: Done,
}

/// The questions that not all groups have answered yet.
#[derive(Default)]
pub struct Questions {
    last: Cell<u64>,
    open: RefCell<BTreeMap<u64, Question>>,
}

impl Questions {
    /// Adds a question to `groups` groups, at least one. `done` is called with their answers.
    /// Returns the number of the question.
    pub fn ask(&self, groups: usize, done: impl FnOnce(Reported) + 'static) -> u64 {
        let question = Question { missing: groups, counts: Reported::new(), done: Box::new(done) };
        let number = self.last.get() + 1;
        self.last.set(number);
        self.open.borrow_mut().insert(number, question);
        number
    }

    /// Notes a group's answer to a question.
    pub fn answered(&self, number: u64, counts: Vec<(ConnectionId, Box<ConnectionActivity>)>) {
        let mut open = self.open.borrow_mut();
        let Some(question) = open.get_mut(&number) else { return };
        question.counts.extend(counts);
        question.missing -= 1;
        if question.missing > 0 {
            return;
        }
        let complete = open.remove(&number);
        drop(open);
        if let Some(Question { counts, done, .. }) = complete {
            done(counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn the_last_answer_completes_a_question() {
        let questions = Questions::default();
        let told = Rc::new(Cell::new(None));
        let tell = Rc::clone(&told);
        let first = questions.ask(2, move |counts| tell.set(Some(counts.len())));
        let second = questions.ask(1, |_| {});
        assert_ne!(first, second);
        questions.answered(first, vec![(1, Box::default())]);
        questions.answered(second, Vec::new());
        assert_eq!(told.get(), None, "one group is missing");
        questions.answered(first, vec![(2, Box::default()), (3, Box::default())]);
        assert_eq!(told.get(), Some(3));
        // An answer to what was answered changes nothing.
        questions.answered(first, Vec::new());
    }
}
