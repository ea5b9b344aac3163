//! The control thread's part in holding aborted requests: every group is told, and only when all of
//! them know, the connections of the requests.

use std::rc::Rc;
use std::sync::Arc;

use dst_session::holds::HoldId;

use crate::control::Target;
use crate::holds::HoldNotice;
use crate::messages::ToGroup;

impl Target {
    /// Requests are to be held, or not any longer, as the group of the core `by` reports.
    ///
    /// One that is too many is not held, and its client not told: the client gives its connection up,
    /// as it does with a target that does not know aborts.
    pub(crate) fn holding(self: &Rc<Self>, by: u32, mut notices: Vec<HoldNotice>) {
        notices.retain(|notice| match notice {
            HoldNotice::Hold(hold) => self.holding.add(&hold.client, hold.id),
            HoldNotice::Release { client, id } => self.holding.remove(client, *id),
        });
        let notices: Arc<[HoldNotice]> = notices.into();
        // Even if there is nothing: the group that has reported waits for this.
        self.tell_groups(|| ToGroup::Holds { by, notices: Arc::clone(&notices) });
        self.ask_whether_held();
    }

    /// Asks all groups whether they hold what they were told of, one question at a time.
    fn ask_whether_held(self: &Rc<Self>) {
        if self.holding.untold.borrow().is_empty() || self.holding.is_asking.replace(true) {
            return;
        }
        let told: Arc<[HoldId]> = self.holding.untold.take().into();
        self.ask_groups(move |target, _| {
            target.tell_groups(|| ToGroup::Held(Arc::clone(&told)));
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
