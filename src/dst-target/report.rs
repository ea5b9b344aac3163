//! Reports for RPCs, for which all groups are asked for their connections' counts.

use std::rc::Rc;

use dst_broker::{ExportActivity, Input, Lateness, Reported, SessionInfo, Totals};
use spdk::clock::now_us;

use crate::control::Target;
use crate::export::Backing;
use crate::messages::ToGroup;

/// An export's state and activity at one moment.
#[derive(Debug)]
pub struct ExportNow<'a> {
    /// The export's name.
    pub name: &'a str,
    /// The name of the bdev, as the operator gave it.
    pub bdev_name: &'a str,
    /// Whether the export has its bdev.
    pub is_online: bool,
    /// The export's activity.
    pub activity: ExportActivity,
}

impl Target {
    /// Calls `done` with the sessions of one export or of all, once the groups have reported their
    /// counts.
    pub fn sessions(self: &Rc<Self>, export: Option<String>, done: impl FnOnce(Vec<SessionInfo>) + 'static) {
        self.ask_groups(move |target, counts| {
            let list = target.broker.borrow().session_list(export.as_deref(), &counts, now_us());
            done(list);
        });
    }

    /// Calls `done` with the counts of the whole target, once the groups have reported theirs.
    pub fn totals(self: &Rc<Self>, done: impl FnOnce(Totals) + 'static) {
        self.ask_groups(|target, counts| {
            let totals = target.broker.borrow().totals(&counts);
            done(totals);
        });
    }

    /// Calls `done` with the counts of the whole target and those of each export, once the groups
    /// have reported theirs. An export is counted when the iterator comes to it.
    pub fn activity(
        self: &Rc<Self>,
        done: impl FnOnce(&Totals, &mut dyn Iterator<Item = ExportNow<'_>>) + 'static,
    ) {
        self.ask_groups(|target, counts| {
            let (broker, exports) = (target.broker.borrow(), target.exports.borrow());
            let activities = broker.activities(&counts);
            let mut list = exports.iter().filter_map(|(name, export)| {
                // The broker knows the same exports, except while one is being created or deleted.
                let activity = activities.of(name)?;
                let is_online = matches!(export.backing, Backing::Online(_));
                Some(ExportNow { name, bdev_name: &export.bdev_name, is_online, activity })
            });
            done(&broker.totals(&counts), &mut list);
        });
    }

    /// Tells the broker how many requests of an export the backend has.
    pub(crate) fn count_in_flight(self: &Rc<Self>, export: String, lateness: Lateness) {
        if lateness == Lateness::Twice {
            self.end_drain_timer(&export);
        }
        self.ask_groups(move |target, counts| {
            let in_flight = target.broker.borrow().in_flight(&export, &counts);
            target.tell(Input::InFlight { export, lateness, in_flight });
        });
    }

    /// Asks every group for its connections' counts and calls `done` with the answers. By then,
    /// each group has also handled all earlier messages.
    pub(crate) fn ask_groups(self: &Rc<Self>, done: impl FnOnce(&Rc<Target>, Reported) + 'static) {
        let groups = self.groups.borrow().threads().len();
        if groups == 0 {
            return done(self, Reported::new());
        }
        let target = Rc::clone(self);
        let question = self.questions.ask(groups, move |counts| done(&target, counts));
        for group in 0..groups {
            self.tell_group(group, ToGroup::Count { question });
        }
    }
}
