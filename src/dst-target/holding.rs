//! The control thread's part in holding aborted requests: every group is told, and only when all of
//! them know, the connection of the request.

use std::rc::Rc;

use crate::control::Target;
use crate::holds::HoldNotice;
use crate::messages::ToGroup;

impl Target {
    /// A request is to be held, or not any longer.
    ///
    /// One that is too many is not held, and its client not told: the client gives its connection up,
    /// as it does with a target that does not know aborts.
    pub(crate) fn holding(self: &Rc<Self>, notice: HoldNotice) {
        match notice {
            HoldNotice::Hold(hold) => {
                if self.holding.add(&hold.owner, hold.id) {
                    self.tell_groups(|| ToGroup::Hold(hold.clone()));
                    self.ask_whether_held();
                }
            }
            HoldNotice::Release { owner, id } => {
                if self.holding.remove(&owner, id) {
                    self.tell_groups(|| ToGroup::Release { owner: owner.clone(), id });
                }
            }
        }
    }

    /// Asks all groups whether they hold what they were told of, one question at a time.
    fn ask_whether_held(self: &Rc<Self>) {
        if self.holding.untold.borrow().is_empty() || self.holding.is_asking.replace(true) {
            return;
        }
        let told = self.holding.untold.take();
        self.ask_groups(move |target, _| {
            for id in told {
                target.tell_groups(|| ToGroup::Held { id });
            }
            target.holding.is_asking.set(false);
            target.ask_whether_held();
        });
    }

    fn tell_groups(&self, message: impl Fn() -> ToGroup) {
        for group in 0..self.groups.borrow().threads().len() {
            self.tell_group(group, message());
        }
    }
}
