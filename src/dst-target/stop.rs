//! The stop of the target.
//!
//! The sessions end, the backends finish what they have, and the exports close their bdevs. If there
//! is to be a note (`stop_note.rs`), each bdev is flushed before that. The stop is *orderly* if
//! every backend has finished in time and every flush has succeeded. Only then is a note left.

use std::collections::BTreeMap;
use std::rc::Rc;

use dst_broker::Input;
use dst_broker::stop_note::{NOTED_MAX, Noted};
use dst_session::mutation::{Mutation, is_on};
use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::bdev::{IoTypes, Survives, product_name, survives};
use spdk::poller::Poller;

use crate::control::Target;
use crate::export::{Backing, Export, device};
use crate::resets::ResetReason;
use crate::stopping::{Ending, Flushing, Stopping};

/// The context of a flush.
struct FlushOf {
    export: String,
}

impl BackendDone for FlushOf {
    fn done(io: Box<BackendIo<FlushOf>>, status: IoStatus) {
        let export = io.ctx.export;
        Target::with(|target| target.flushed(&export, status == IoStatus::Success));
    }
}

impl Target {
    /// Ends all listeners, sessions, connections and exports. `done` is called when none is left.
    pub fn stop(self: &Rc<Self>, done: impl FnOnce() + 'static) {
        let is_ending = |(name, export): (&String, &Export)| export.deletion.is_none().then(|| name.clone());
        let ending: Vec<String> = self.exports.borrow().iter().filter_map(is_ending).collect();
        *self.stopping.borrow_mut() = Stopping::Ending(Ending {
            done: Box::new(done),
            exports: ending.clone(),
            flushing: BTreeMap::new(),
            noted: BTreeMap::new(),
            failure: None,
            is_idle: false,
        });
        self.listeners.borrow_mut().clear();
        self.retrier.take();
        // The sessions end before the exports are deleted; otherwise, clients would be told that
        // the exports are gone for good. To clients, the stop looks like the death of the process,
        // whose place another process may take.
        self.tell(Input::Stop);
        for name in ending {
            let late = name.clone();
            let deleted = self.delete_export(&name, move |gone| {
                if let Err(error) = gone {
                    Target::with(|target| target.not_orderly(&late, &error.to_string()));
                }
            });
            if let Err(error) = deleted {
                self.not_orderly(&name, &error.to_string());
            }
        }
    }

    /// Notes that the stop, if there is one, is not an orderly one because of this export.
    pub(crate) fn not_orderly(&self, export: &str, why: &str) {
        if let Some(ending) = self.stopping.borrow_mut().ending() {
            ending.fail(export, why);
        }
    }

    /// Flushes the bdev of an export that a stop has ended and of which the backend has nothing more,
    /// so that the note may say that everything is durable. Does nothing without a stop or a note,
    /// and for bdevs whose data is lost with the process. `has_failed` says that the backend has failed
    /// a flush at some time.
    pub(crate) fn flush_at_stop(self: &Rc<Self>, name: &str, export: &Export, has_failed: bool) {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending() else { return };
        let Some(at) = ending.exports.iter().position(|ending| ending == name) else { return };
        ending.exports.swap_remove(at);
        if self.stop_note().is_none() {
            return;
        }
        let (Backing::Online(desc), Some(instance)) = (&export.backing, export.instance) else { return };
        if has_failed {
            // When cached data can't be written, Linux fails the next flush and lets later ones succeed.
            return spdk::warn!("DST export {name} is not in the stop note: its backend has failed a flush");
        }
        let info = desc.info();
        let survives = survives(&product_name(&info.name).unwrap_or_default());
        let (Some(survives), Some(uuid)) = (survives, export.identity.uuid()) else { return };
        let noted = Noted::new(instance, &device(&info, uuid), survives == Survives::MachineRestart);
        if ending.noted.len() + ending.flushing.len() >= NOTED_MAX {
            return spdk::warn!("DST export {name} is not in the stop note, which has {NOTED_MAX} others");
        }
        if export.read_only || !info.write_cache {
            // There is nothing to flush.
            ending.noted.insert(name.to_owned(), noted);
            return;
        }
        if !info.supports.contains(IoTypes::FLUSH) {
            return;
        }
        let (channel, timer) = match (desc.handle().channel(), self.flush_timer(name)) {
            (Ok(channel), Ok(timer)) => (Rc::new(channel), timer),
            (Err(errno), _) | (_, Err(errno)) => {
                return ending.fail(name, &format!("its bdev can't be flushed: {errno}"));
            }
        };
        let flushing = Flushing { noted, channel: Rc::clone(&channel), _timer: timer };
        ending.flushing.insert(name.to_owned(), flushing);
        drop(stopping);
        let io = Box::new(BackendIo::new(FlushOf { export: name.to_owned() }));
        channel.flush(io, 0, info.num_blocks);
    }

    /// Returns the timer of a flush. A bdev that does not answer in time is reset, as at the end of any
    /// export.
    fn flush_timer(&self, name: &str) -> spdk::Result<Poller> {
        let (of, period_us) = (name.to_owned(), u64::from(self.options.get().drain_timeout_ms) * 1000);
        let mut is_late = false;
        let late = move || {
            if !std::mem::replace(&mut is_late, true) {
                Target::with(|target| target.flush_is_late(&of));
            }
            true
        };
        Poller::register(period_us, late)
    }

    fn flush_is_late(&self, name: &str) {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending() else { return };
        ending.fail(name, "the flush of its bdev did not end in time");
        let channel = ending.flushing.get(name).map(|flushing| Rc::clone(&flushing.channel));
        drop(stopping);
        if let Some(channel) = channel {
            spdk::warn!("DST export {name}: the last flush of its bdev takes too long; the bdev is reset");
            self.reset_by(&channel, name.to_owned(), ResetReason::Drain);
        }
    }

    /// Handles the end of a flush.
    fn flushed(self: &Rc<Self>, name: &str, has_succeeded: bool) {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending() else { return };
        let Some(flushing) = ending.flushing.remove(name) else { return };
        if has_succeeded || is_on(Mutation::NoteDespiteFailedFlush) {
            ending.noted.insert(name.to_owned(), flushing.noted);
        } else {
            ending.fail(name, "the flush of its bdev has failed");
        }
        drop(stopping);
        drop(flushing);
        self.end_stop();
    }

    /// Notes that no connection and no export is left.
    pub(crate) fn stopped(self: &Rc<Self>) {
        if let Some(ending) = self.stopping.borrow_mut().ending() {
            ending.is_idle = true;
        }
        self.end_stop();
    }

    /// Ends the stop once nothing is left and all flushes have ended: leaves the note, if there is to
    /// be one, and then calls the callback.
    fn end_stop(self: &Rc<Self>) {
        let mut stopping = self.stopping.borrow_mut();
        if !stopping.ending().is_some_and(|ending| ending.is_idle && ending.flushing.is_empty()) {
            return;
        }
        let Stopping::Ending(Ending { done, noted, failure, .. }) = std::mem::take(&mut *stopping) else {
            return;
        };
        *stopping = Stopping::LeavingNote(done);
        drop(stopping);
        if !self.leave_note(noted, failure) {
            self.note_is_left();
        }
    }

    /// Does the last step of the stop.
    pub(crate) fn note_is_left(self: &Rc<Self>) {
        let Stopping::LeavingNote(done) = self.stopping.take() else { return };
        self.stop_groups();
        self.ticker.take();
        self.looker.take();
        Target::forget();
        done();
    }
}
