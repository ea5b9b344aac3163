//! The resets of exports' bdevs, on the control thread: those that clients ask for, and the last means
//! against a backend that keeps an export from ending.

use std::rc::Rc;
use std::sync::Arc;

use dst_broker::Input;
use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::clock::now_us;

use crate::backend_resets::BackendResets;
use crate::control::Target;
use crate::error::Error;

/// A reset under way, of this export's bdev.
struct ResetOf {
    export: String,
    why: Why,
    resets: Arc<BackendResets>,
}

/// For whom a bdev is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// For clients.
    Hosts,
    /// For an export that is to end, or whose bdev was removed.
    Drain,
}

impl BackendDone for ResetOf {
    fn done(io: Box<BackendIo<ResetOf>>, status: IoStatus) {
        let ResetOf { export, why, resets } = io.ctx;
        resets.end(now_us());
        let has_succeeded = status == IoStatus::Success;
        if !has_succeeded {
            spdk::error!("DST export {export}: its bdev could not be reset");
        }
        Target::with(|target| target.reset_ended(export, why, has_succeeded));
    }
}

impl Target {
    /// Resets an export's bdev, as its clients ask for.
    pub(crate) fn reset_for_hosts(self: &Rc<Self>, export: String) {
        self.reset(export, Why::Hosts);
    }

    /// Has an export's bdev reset for a client that waits to own the export. The reset has begun when
    /// this returns; [`crate::ExportInfo::is_resetting`] tells when it has ended.
    ///
    /// # Errors
    /// There is no such export, nobody waits, or the bdev is being reset already.
    pub fn reset_for_takeover(self: &Rc<Self>, name: &str) -> Result<(), Error> {
        self.broker.borrow_mut().reset_for_takeover(now_us(), name)?;
        self.carry_out();
        Ok(())
    }

    /// Resets an export's bdev, which ends everybody's I/O to it.
    pub(crate) fn reset(self: &Rc<Self>, export: String, why: Why) {
        let exports = self.exports.borrow();
        let desc = exports.get(&export).and_then(|known| known.open_desc());
        let channel = desc.map(|desc| desc.handle().channel());
        drop(exports);
        match channel {
            Some(Ok(channel)) => {
                let resets = Arc::clone(&self.backend_resets);
                resets.begin();
                // It may come back before this call does.
                channel.reset(Box::new(BackendIo::new(ResetOf { export, why, resets })));
            }
            Some(Err(errno)) => {
                spdk::error!("DST export {export}: no channel to reset its bdev: {errno}");
                self.reset_ended(export, why, false);
            }
            None => self.reset_ended(export, why, false),
        }
    }

    fn reset_ended(self: &Rc<Self>, export: String, why: Why, has_succeeded: bool) {
        self.tell(match why {
            Why::Hosts => Input::HostsResetEnded { export, has_succeeded },
            Why::Drain => Input::ResetEnded { export },
        });
    }
}
