//! The drain of an export that is deleted or whose bdev was removed: the timer of the drain
//! time-out, the reset, and the answer to the caller. The broker decides when each is due.

use std::rc::Rc;

use dst_broker::{Input, Rejection};
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Backing, Deletion};
use crate::resets::ResetReason;

impl Target {
    /// Deletes an export. Its sessions end, and `done` is called when the backend has finished
    /// their requests and the bdev is closed, or with [`Error::Hangs`] if the backend takes too
    /// long.
    ///
    /// # Errors
    /// Fails if there is no such export, or if it is already being deleted. `done` is then not
    /// called.
    pub fn delete_export(
        self: &Rc<Self>,
        name: &str,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) -> Result<(), Error> {
        let timer = self.drain_timer(name)?;
        self.delete_with(name, Some(timer), done)
    }

    /// Deletes an export, as [`Target::delete_export`] does, with this timer of the drain time-out.
    ///
    /// # Errors
    /// As [`Target::delete_export`].
    pub(crate) fn delete_with(
        self: &Rc<Self>,
        name: &str,
        timer: Option<Poller>,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) -> Result<(), Error> {
        let mut exports = self.exports.borrow_mut();
        let export = exports.get_mut(name).ok_or_else(|| Rejection::NoExport(name.to_owned()))?;
        if export.deletion.is_some() {
            return Err(Rejection::ExportBusy(name.to_owned()).into());
        }
        export.drain_timer = timer;
        export.deletion = Some(Deletion::Awaited(Box::new(done)));
        drop(exports);
        self.update_waiting(name);
        self.forget_keys(name, |_| true);
        let deleted = self.broker.borrow_mut().delete_export(spdk::clock::now_us(), name);
        self.carry_out();
        Ok(deleted?)
    }

    /// Returns a timer that reports each passing of the drain time-out to the broker.
    ///
    /// # Errors
    /// Fails with [`Error::Resources`] if memory is short.
    pub(crate) fn drain_timer(&self, name: &str) -> Result<Poller, Error> {
        let of = name.to_owned();
        let late = move || {
            Target::with(|target| target.tell(Input::DrainTimeout { export: of.clone() }));
            true
        };
        Poller::register(self.drain_timeout_us(), late)
            .map_err(|errno| Error::Resources { what: "a timer for the backend's last I/O", errno })
    }

    /// Returns the drain time-out in µs.
    pub(crate) fn drain_timeout_us(&self) -> u64 {
        u64::from(self.options.get().drain_timeout_ms) * 1000
    }

    /// Ends the timer of the drain time-out.
    pub(crate) fn end_drain_timer(&self, name: &str) {
        let timer = self.exports.borrow_mut().get_mut(name).and_then(|export| export.drain_timer.take());
        drop(timer);
    }

    /// Resets the bdev of an export, which ends all I/O to it, whoever has submitted it: the last
    /// means to end a drain.
    pub(crate) fn reset_backend(self: &Rc<Self>, name: &str, in_flight: usize, waited_ms: u64) {
        let exports = self.exports.borrow();
        let Some(export) = exports.get(name) else { return };
        spdk::warn!(
            "DST export {name} gives up its bdev: after {waited_ms} ms the backend still has {in_flight} I/Os; \
             bdev {} is reset",
            export.bdev_name
        );
        drop(exports);
        self.reset(name.to_owned(), ResetReason::Drain);
    }

    /// Tells the caller that asked for the deletion that the backend hangs; if the bdev was
    /// removed, tells the operator. The drain continues.
    pub(crate) fn backend_hangs(&self, export: String, in_flight: usize, waited_ms: u64) {
        let mut exports = self.exports.borrow_mut();
        let Some(known) = exports.get_mut(&export) else { return };
        let bdev = known.bdev_name.clone();
        let before = known.deletion.as_mut().map(|deletion| std::mem::replace(deletion, Deletion::Late));
        drop(exports);
        match before {
            Some(Deletion::Awaited(done)) => done(Err(Error::Hangs { export, bdev, in_flight, waited_ms })),
            Some(Deletion::Late) => {}
            None => spdk::error!(
                "DST export {export}: bdev {bdev} was removed {waited_ms} ms ago, and its backend still has \
                 {in_flight} I/Os; a reset did not help. SPDK waits for them"
            ),
        }
    }

    /// Closes a removed bdev, whose backend has finished, and begins to wait for another one.
    pub(crate) fn backing_gone(self: &Rc<Self>, name: &str, was_late: bool) {
        let mut exports = self.exports.borrow_mut();
        let Some(export) = exports.get_mut(name) else { return };
        let timer = export.drain_timer.take();
        let nothing = Backing::Offline { why: String::new(), before: None };
        let left = std::mem::replace(&mut export.backing, nothing);
        if let Backing::Leaving { desc, why } = left {
            export.backing = Backing::Offline { why, before: Some(desc.info()) };
            drop(exports);
            drop(desc);
        } else {
            export.backing = left;
            drop(exports);
        }
        drop(timer);
        if was_late {
            spdk::notice!("DST export {name}: the backend of the bdev that was removed has finished");
        }
        self.update_waiting(name);
    }

    /// Closes the bdev of an export of which nothing else is left, and answers the caller that
    /// asked for the deletion.
    pub(crate) fn export_gone(self: &Rc<Self>, name: &str, was_late: bool, has_failed: bool) {
        let export = self.exports.borrow_mut().remove(name);
        let Some(export) = export else { return };
        if was_late {
            // The bdev may have been reset to get its I/O back.
            self.not_orderly(name, "the backend did not finish in time");
        }
        self.flush_at_stop(name, &export, has_failed);
        drop(export.backing);
        drop(export.drain_timer);
        if was_late {
            spdk::notice!("DST export {name} is gone, its backend has finished");
        }
        if let Some(Deletion::Awaited(done)) = export.deletion {
            done(Ok(()));
        }
    }
}
