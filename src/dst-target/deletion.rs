//! The end of an export, with a backend that may hang.
//!
//! Its sessions end at once. The bdev is closed when the backend has given back what it had of them. If that
//! takes longer than [`crate::Options::drain_timeout_ms`] the bdev is reset; if it takes as long again, whoever
//! asked for the deletion is told, and it goes on without them.

use std::rc::Rc;

use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::export::Export;

type Done = Box<dyn FnOnce(Result<(), Error>)>;

/// A deletion that is under way.
pub struct Deletion {
    /// Told how it ends, or that it may not.
    done: Option<Done>,
    /// How often the drain time-out has passed.
    late: u64,
    /// The bdev is being reset: what comes after the deletion is not meant by that.
    is_resetting: bool,
    timer: Option<Poller>,
}

/// A reset under way, of this export's bdev.
struct ResetOf(String);

impl BackendDone for ResetOf {
    fn done(io: Box<BackendIo<ResetOf>>, status: IoStatus) {
        if status != IoStatus::Success {
            spdk::error!("DST export {}: its bdev could not be reset", io.ctx.0);
        }
        Target::with(|target| {
            if let Some(export) = target.state.borrow_mut().exports.get_mut(&io.ctx.0)
                && let Some(deletion) = &mut export.deleting
            {
                deletion.is_resetting = false;
            }
            target.export_idle(&io.ctx.0);
        });
    }
}

impl Target {
    /// Takes an export away: its sessions end, and `done` is called when the backend has finished what it
    /// had of them and the bdev is closed; or with [`Error::Hangs`], when it does not come to that.
    ///
    /// # Errors
    /// There is no such export, or it is being deleted already; `done` is not called then.
    pub fn delete_export(
        self: &Rc<Self>,
        name: &str,
        done: impl FnOnce(Result<(), Error>) + 'static,
    ) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let export = state.exports.get_mut(name).ok_or_else(|| Error::NoExport(name.to_owned()))?;
        if export.deleting.is_some() {
            return Err(Error::ExportBusy(name.to_owned()));
        }
        let (of, period_us) = (name.to_owned(), u64::from(self.options.get().drain_timeout_ms) * 1000);
        let late = move || {
            Target::with(|target| target.drain_is_late(&of));
            true
        };
        let timer = Poller::register(period_us, late)
            .map_err(|errno| Error::Resources { what: "a timer for the deletion", errno })?;
        export.deleting =
            Some(Deletion { done: Some(Box::new(done)), late: 0, is_resetting: false, timer: Some(timer) });
        drop(state);
        self.end_sessions(name, "its export is deleted", |_, _| true);
        self.end_handshakes(name, |_| true);
        self.export_idle(name);
        Ok(())
    }

    /// The last step of [`Target::delete_export`], when its last connection is gone.
    pub(crate) fn export_idle(self: &Rc<Self>, name: &str) {
        let mut state = self.state.borrow_mut();
        let is_of = |owner: Option<&str>| owner == Some(name);
        let in_use =
            state.connections.values().any(|entry| is_of(entry.owner.as_ref().map(|o| o.export.as_str())));
        let can_go =
            |export: &Export| export.deleting.as_ref().is_some_and(|deletion| !deletion.is_resetting);
        if in_use || !state.exports.get(name).is_some_and(can_go) {
            return;
        }
        let export = state.exports.remove(name).expect("it was just there");
        drop(state);
        let Export { desc, deleting, .. } = export;
        drop(desc);
        if let Some(Deletion { done, late, .. }) = deleting {
            if late > 0 {
                spdk::notice!("DST export {name} is gone, its backend has finished");
            }
            if let Some(done) = done {
                done(Ok(()));
            }
        }
        self.stop_if_idle();
    }

    /// The drain time-out has passed, once or twice.
    fn drain_is_late(self: &Rc<Self>, name: &str) {
        let mut state = self.state.borrow_mut();
        let Some(deletion) = state.exports.get_mut(name).and_then(|export| export.deleting.as_mut()) else {
            return;
        };
        deletion.late += 1;
        let waited_ms = deletion.late * u64::from(self.options.get().drain_timeout_ms);
        let first = deletion.late == 1;
        let timer = if first { None } else { deletion.timer.take() };
        drop(state);
        drop(timer);
        let (target, export) = (Rc::clone(self), name.to_owned());
        self.in_flight(name, move |in_flight| {
            if first {
                target.reset_backend(&export, in_flight, waited_ms);
            } else {
                target.give_up_waiting(export, in_flight, waited_ms);
            }
        });
    }

    /// Everybody's I/O to the bdev ends: what else could still help.
    fn reset_backend(&self, name: &str, in_flight: usize, waited_ms: u64) {
        let mut state = self.state.borrow_mut();
        let Some(export) = state.exports.get_mut(name) else { return };
        let Some(deletion) = &mut export.deleting else { return };
        spdk::warn!(
            "DST export {name} is being deleted: after {waited_ms} ms the backend still has {in_flight} I/Os; \
             bdev {} is reset",
            export.bdev_name
        );
        let channel = match export.desc.handle().channel() {
            Ok(channel) => channel,
            Err(errno) => return spdk::error!("DST export {name}: no channel to reset its bdev: {errno}"),
        };
        deletion.is_resetting = true;
        drop(state);
        // It may come back before this call does.
        channel.reset(Box::new(BackendIo::new(ResetOf(name.to_owned()))));
    }

    fn give_up_waiting(&self, name: String, in_flight: usize, waited_ms: u64) {
        let mut state = self.state.borrow_mut();
        let Some(export) = state.exports.get_mut(&name) else { return };
        let bdev = export.bdev_name.clone();
        let Some(done) = export.deleting.as_mut().and_then(|deletion| deletion.done.take()) else { return };
        drop(state);
        done(Err(Error::Hangs { export: name, bdev, in_flight, waited_ms }));
    }
}
