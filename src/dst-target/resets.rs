//! Resets of exports' bdevs by the control thread: for clients that ask for them, and as the last
//! means to end the drain of an export.

use std::rc::Rc;
use std::sync::Arc;

use dst_broker::Input;
use spdk::backend::{BackendChannel, BackendDone, BackendIo, IoStatus};
use spdk::clock::now_us;

use crate::backend_resets::BackendResets;
use crate::control::Target;
use crate::error::Error;

/// The context of a reset that is under way.
struct ResetOf {
    export: String,
    reason: ResetReason,
    resets: Arc<BackendResets>,
}

/// The reason for which a bdev is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetReason {
    /// Clients, or an operator for a client that waits, have asked for the reset.
    Hosts,
    /// The backend does not finish the requests of an export that is being drained.
    Drain,
}

impl BackendDone for ResetOf {
    fn done(io: Box<BackendIo<ResetOf>>, status: IoStatus) {
        let ResetOf { export, reason, resets } = io.ctx;
        resets.end(now_us());
        let has_succeeded = status == IoStatus::Success;
        if !has_succeeded {
            spdk::error!("DST export {export}: its bdev could not be reset");
        }
        Target::with(|target| target.reset_ended(export, reason, has_succeeded));
    }
}

impl Target {
    /// Resets an export's bdev, as its clients ask for.
    pub(crate) fn reset_for_hosts(self: &Rc<Self>, export: String) {
        self.reset(export, ResetReason::Hosts);
    }

    /// Resets an export's bdev for a client that waits to own the export. The reset has begun when
    /// this function returns; [`crate::ExportInfo::is_resetting`] shows whether it has ended.
    ///
    /// # Errors
    /// Fails as [`dst_broker::Broker::reset_for_takeover`].
    pub fn reset_for_takeover(self: &Rc<Self>, name: &str) -> Result<(), Error> {
        self.broker.borrow_mut().reset_for_takeover(now_us(), name)?;
        self.carry_out();
        Ok(())
    }

    /// Resets an export's bdev, which ends all I/O to it, whoever has submitted it.
    pub(crate) fn reset(self: &Rc<Self>, export: String, reason: ResetReason) {
        let exports = self.exports.borrow();
        let desc = exports.get(&export).and_then(|known| known.open_desc());
        let channel = desc.map(|desc| desc.handle().channel());
        drop(exports);
        match channel {
            Some(Ok(channel)) => self.reset_by(&channel, export, reason),
            Some(Err(errno)) => {
                spdk::error!("DST export {export}: no channel to reset its bdev: {errno}");
                self.reset_ended(export, reason, false);
            }
            None => self.reset_ended(export, reason, false),
        }
    }

    /// Resets an export's bdev by this channel.
    pub(crate) fn reset_by(&self, channel: &BackendChannel, export: String, reason: ResetReason) {
        let resets = Arc::clone(&self.backend_resets);
        resets.begin();
        // The reset may complete before this call returns.
        channel.reset(Box::new(BackendIo::new(ResetOf { export, reason, resets })));
    }

    fn reset_ended(self: &Rc<Self>, export: String, reason: ResetReason, has_succeeded: bool) {
        self.tell(match reason {
            ResetReason::Hosts => Input::HostsResetEnded { export, has_succeeded },
            ResetReason::Drain => Input::ResetEnded { export },
        });
    }
}
