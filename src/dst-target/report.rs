//! Questions to all groups: what their connections did, and do.

use std::rc::Rc;

use dst_broker::{Input, Lateness, SessionInfo, Totals};
use spdk::clock::now_us;

use crate::control::Target;
use crate::messages::ToGroup;
use crate::questions::Counts;

impl Target {
    /// Calls `done` with the sessions, of one export or all, once the groups have told their counts.
    pub fn sessions(self: &Rc<Self>, export: Option<String>, done: impl FnOnce(Vec<SessionInfo>) + 'static) {
        self.ask_groups(move |target, counts| {
            let list = target.broker.borrow().session_list(export.as_deref(), &counts, now_us());
            done(list);
        });
    }

    /// Calls `done` with all that is known of the whole, once the groups have told their counts.
    pub fn totals(self: &Rc<Self>, done: impl FnOnce(Totals) + 'static) {
        self.ask_groups(|target, counts| {
            let totals = target.broker.borrow().totals(&counts);
            done(totals);
        });
    }

    /// Tells the broker how many requests the backend has of an export that is being deleted.
    pub(crate) fn count_in_flight(self: &Rc<Self>, export: String, lateness: Lateness) {
        if lateness == Lateness::Twice {
            self.end_drain_timer(&export);
        }
        self.ask_groups(move |target, counts| {
            let in_flight = target.broker.borrow().in_flight(&export, &counts);
            target.tell(Input::InFlight { export, lateness, in_flight });
        });
    }

    /// Asks every group for its connections' counts. When all have answered, each has also acted on
    /// what it was told before.
    pub(crate) fn ask_groups(self: &Rc<Self>, done: impl FnOnce(&Rc<Target>, Counts) + 'static) {
        let groups = self.groups.borrow().threads().len();
        if groups == 0 {
            return done(self, Counts::new());
        }
        let target = Rc::clone(self);
        let question = self.questions.ask(groups, move |counts| done(&target, counts));
        for group in 0..groups {
            self.tell_group(group, ToGroup::Count { question });
        }
    }
}
