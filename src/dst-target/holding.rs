//! The control thread's part in holding aborted requests: it tells every group to hold a request,
//! and when all groups have confirmed that, it tells the request's connection.

use std::rc::Rc;
use std::sync::Arc;

use dst_session::holds::HoldId;

use crate::control::Target;
use crate::holds::HoldNotice;
use crate::messages::ToGroup;

impl Target {
    /// Passes a report of holds, by the group of the core `by`, on to all groups.
    ///
    /// A request beyond the limit is not held, and its client is not told that it is. The client
    /// then gives its connection up, as with a target that does not support aborts.
    pub(crate) fn take_hold_report(self: &Rc<Self>, by: u32, mut notices: Vec<HoldNotice>) {
        notices.retain(|notice| match notice {
            HoldNotice::Hold(hold) => self.holding.add(&hold.client, hold.id),
            HoldNotice::Release { client, id } => self.holding.remove(client, *id),
        });
        let notices: Arc<[HoldNotice]> = notices.into();
        // The groups are told even if no notice is left, since the reporting group waits for this.
        self.tell_groups(|| ToGroup::Holds { by, notices: Arc::clone(&notices) });
        self.ask_whether_held();
    }

    /// Asks all groups to confirm the holds of which they were told, one question at a time.
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
