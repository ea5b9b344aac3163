//! What the deletion of an export does to its bdev: the drain time-out's timer, the reset, and the
//! answer to whoever asked. The broker decides when.

use std::rc::Rc;

use dst_broker::{Input, Rejection};
use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::export::Deletion;

/// A reset under way, of this export's bdev.
struct ResetOf(String);

impl BackendDone for ResetOf {
    fn done(io: Box<BackendIo<ResetOf>>, status: IoStatus) {
        let export = io.ctx.0;
        if status != IoStatus::Success {
            spdk::error!("DST export {export}: its bdev could not be reset");
        }
        Target::with(|target| target.tell(Input::ResetEnded { export }));
    }
}

impl Target {
    /// Takes an export away: its sessions end, and `done` is called when the backend has finished what
    /// it had of them and the bdev is closed; or with [`Error::Hangs`], when it does not come to that.
    ///
    /// # Errors
    /// There is no such export, or it is being deleted already; `done` is not called then.
    pub fn delete_export(
        self: &Rc<Self>,
        name: &str,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) -> Result<(), Error> {
        let mut exports = self.exports.borrow_mut();
        let export = exports.get_mut(name).ok_or_else(|| Rejection::NoExport(name.to_owned()))?;
        if export.deletion.is_some() {
            return Err(Rejection::ExportBusy(name.to_owned()).into());
        }
        let (of, period_us) = (name.to_owned(), u64::from(self.options.get().drain_timeout_ms) * 1000);
        let late = move || {
            Target::with(|target| target.tell(Input::DrainTimeout { export: of.clone() }));
            true
        };
        let timer = Poller::register(period_us, late)
            .map_err(|errno| Error::Resources { what: "a timer for the deletion", errno })?;
        export.deletion = Some(Deletion { done: Some(Box::new(done)), timer: Some(timer) });
        drop(exports);
        let deleted = self.broker.borrow_mut().delete_export(spdk::clock::now_us(), name);
        self.carry_out();
        Ok(deleted?)
    }

    /// The drain time-out need not be told again.
    pub(crate) fn end_drain_timer(&self, name: &str) {
        let mut exports = self.exports.borrow_mut();
        let deletion = exports.get_mut(name).and_then(|export| export.deletion.as_mut());
        let timer = deletion.and_then(|deletion| deletion.timer.take());
        drop(exports);
        drop(timer);
    }

    /// Everybody's I/O to the bdev ends: what else could still help.
    pub(crate) fn reset_backend(self: &Rc<Self>, name: &str, in_flight: usize, waited_ms: u64) {
        let exports = self.exports.borrow();
        let Some(export) = exports.get(name) else { return };
        spdk::warn!(
            "DST export {name} is being deleted: after {waited_ms} ms the backend still has {in_flight} I/Os; \
             bdev {} is reset",
            export.bdev_name
        );
        let channel = export.desc.handle().channel();
        drop(exports);
        match channel {
            // It may come back before this call does.
            Ok(channel) => channel.reset(Box::new(BackendIo::new(ResetOf(name.to_owned())))),
            Err(errno) => {
                spdk::error!("DST export {name}: no channel to reset its bdev: {errno}");
                self.tell(Input::ResetEnded { export: name.to_owned() });
            }
        }
    }

    /// Whoever asked for the deletion hears that the backend hangs. The deletion goes on.
    pub(crate) fn backend_hangs(&self, export: String, in_flight: usize, waited_ms: u64) {
        let mut exports = self.exports.borrow_mut();
        let Some(known) = exports.get_mut(&export) else { return };
        let bdev = known.bdev_name.clone();
        let done = known.deletion.as_mut().and_then(|deletion| deletion.done.take());
        drop(exports);
        if let Some(done) = done {
            done(Err(Error::Hangs { export, bdev, in_flight, waited_ms }));
        }
    }

    /// Nothing of an export is left: closes its bdev, and tells whoever asked for the deletion.
    pub(crate) fn export_gone(&self, name: &str, was_late: bool) {
        let export = self.exports.borrow_mut().remove(name);
        let Some(export) = export else { return };
        drop(export.desc);
        if was_late {
            spdk::notice!("DST export {name} is gone, its backend has finished");
        }
        if let Some(done) = export.deletion.and_then(|deletion| deletion.done) {
            done(Ok(()));
        }
    }
}
