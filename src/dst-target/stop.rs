//! The stop of the target.
//!
//! The sessions end, the backends finish what they have, and the exports close their bdevs. If there
//! is to be a note (`stop_note.rs`), each bdev is flushed before that. The stop is *orderly* if
//! every backend has finished in time and every flush has succeeded. Only then is a note left.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use dst_broker::Input;
use dst_broker::stop_note::{NOTED_MAX, Noted};
use dst_session::mutation::{Mutation, is_on};
use spdk::backend::{BackendDone, BackendIo, IoStatus};
use spdk::bdev::{IoTypes, Survives, product_name, survives};
use spdk::clock::now_us;
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::export::{Backing, Export, device};
use crate::resets::ResetReason;
use crate::stopping::{Ending, Flushing, Stopping, Unflushed};

/// The context of a flush.
struct LastFlush;

impl BackendDone for LastFlush {
    fn done(_: Box<BackendIo<LastFlush>>, status: IoStatus) {
        Target::with(|target| target.flushed(status == IoStatus::Success));
    }
}

impl Target {
    /// Ends all listeners, sessions, connections and exports. `done` is called when none is left.
    pub fn stop(self: &Rc<Self>, done: impl FnOnce() + 'static) {
        let is_ending = |(name, export): (&String, &Export)| export.deletion.is_none().then(|| name.clone());
        let ending: Vec<String> = self.exports.borrow().iter().filter_map(is_ending).collect();
        *self.stopping.borrow_mut() = Stopping::Ending(Box::new(Ending {
            done: Box::new(done),
            exports: ending.clone(),
            untimed: Vec::new(),
            untimed_due_us: now_us() + self.drain_timeout_us(),
            unflushed: VecDeque::new(),
            flushing: None,
            noted: BTreeMap::new(),
            failure: None,
        }));
        self.listeners.borrow_mut().clear();
        self.retrier.take();
        // The sessions end before the exports are deleted; otherwise, clients would be told that
        // the exports are gone for good. To clients, the stop looks like the death of the process,
        // whose place another process may take.
        self.tell(Input::Stop);
        for name in ending {
            let late = name.clone();
            let timer = self.drain_timer(&name).inspect_err(|error| self.has_no_timer(&name, error)).ok();
            let deleted = self.delete_with(&name, timer, move |gone| {
                if let Err(error) = gone {
                    Target::with(|target| target.not_orderly(&late, &error.to_string()));
                }
            });
            if let Err(error) = deleted {
                self.not_orderly(&name, &error.to_string());
            }
        }
    }

    /// Notes that the end of an export has no timer of its own. The target's timer serves instead.
    fn has_no_timer(&self, export: &str, error: &Error) {
        spdk::error!("DST export {export}: {error}");
        if let Some(ending) = self.stopping.borrow_mut().ending() {
            ending.untimed.push(export.to_owned());
        }
    }

    /// Tells the broker of the passing of the drain time-out of exports without a timer of their own.
    pub(crate) fn tick_stop(self: &Rc<Self>) {
        let now_us = now_us();
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending().filter(|ending| now_us >= ending.untimed_due_us) else { return };
        ending.untimed_due_us = now_us + self.drain_timeout_us();
        let untimed = ending.untimed.clone();
        drop(stopping);
        for export in untimed {
            self.tell(Input::DrainTimeout { export });
        }
    }

    /// Notes that the stop, if there is one, is not an orderly one because of this export.
    pub(crate) fn not_orderly(&self, export: &str, why: &str) {
        if let Some(ending) = self.stopping.borrow_mut().ending() {
            ending.fail(export, why);
        }
    }

    /// Notes that a stop has ended an export, and that its backend has nothing more, so that its bdev is
    /// flushed before the note says that everything is durable. Does nothing without a stop or a note,
    /// and for bdevs whose data is lost with the process. `has_failed` says that the backend has failed
    /// a flush at some time.
    pub(crate) fn flush_at_stop(self: &Rc<Self>, name: &str, export: &Export, has_failed: bool) {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending() else { return };
        let Some(at) = ending.exports.iter().position(|ending| ending == name) else { return };
        ending.exports.swap_remove(at);
        if self.stop_note().is_none() || ending.failure.is_some() {
            return;
        }
        let Backing::Online(desc) = &export.backing else { return };
        if has_failed {
            // When cached data can't be written, Linux fails the next flush of the file, and lets later
            // ones succeed, of other exports, too.
            return ending.fail(name, "its backend has failed a flush");
        }
        let info = desc.info();
        let survives = survives(&product_name(&info.name).unwrap_or_default(), info.write_cache);
        let (Some(survives), Some(uuid)) = (survives, export.identity.uuid()) else { return };
        let instances = export.instances.clone();
        let noted = Noted::new(instances, &device(&info, uuid), survives == Survives::MachineRestart);
        if ending.noted.len() + ending.unflushed.len() >= NOTED_MAX {
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
        match desc.handle().channel() {
            Ok(channel) => ending.unflushed.push_back(Unflushed {
                export: name.to_owned(),
                noted,
                channel: Rc::new(channel),
                num_blocks: info.num_blocks,
            }),
            Err(errno) => ending.fail(name, &format!("its bdev can't be flushed: {errno}")),
        }
    }

    /// Begins the next flush. Returns false if there is none, or no use in one.
    fn flush_next(self: &Rc<Self>) -> bool {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending().filter(|ending| ending.failure.is_none()) else { return false };
        let Some(of) = ending.unflushed.pop_front() else { return false };
        let timer = match self.flush_timer() {
            Ok(timer) => timer,
            Err(errno) => {
                ending.fail(&of.export, &format!("its bdev can't be flushed: {errno}"));
                return false;
            }
        };
        let (channel, num_blocks) = (Rc::clone(&of.channel), of.num_blocks);
        ending.flushing = Some(Flushing { of, _timer: timer });
        drop(stopping);
        channel.flush(Box::new(BackendIo::new(LastFlush)), 0, num_blocks);
        true
    }

    /// Returns the timer of a flush. A bdev that does not answer in time is reset, as at the end of any
    /// export.
    fn flush_timer(&self) -> spdk::Result<Poller> {
        let mut is_late = false;
        let late = move || {
            if std::mem::replace(&mut is_late, true) {
                spdk::error!("DST stops: a flush still has not ended, although its bdev was reset");
            } else {
                Target::with(Target::flush_is_late);
            }
            true
        };
        Poller::register(self.drain_timeout_us(), late)
    }

    fn flush_is_late(self: &Rc<Self>) {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending() else { return };
        let Some(Flushing { of, .. }) = &ending.flushing else { return };
        let (export, channel) = (of.export.clone(), Rc::clone(&of.channel));
        ending.fail(&export, "the flush of its bdev did not end in time");
        drop(stopping);
        spdk::warn!("DST export {export}: the last flush of its bdev takes too long; the bdev is reset");
        self.reset_by(&channel, export, ResetReason::Drain);
    }

    /// Handles the end of a flush.
    fn flushed(self: &Rc<Self>, has_succeeded: bool) {
        let mut stopping = self.stopping.borrow_mut();
        let Some(ending) = stopping.ending() else { return };
        let Some(Flushing { of, _timer }) = ending.flushing.take() else { return };
        if has_succeeded || is_on(Mutation::NoteDespiteFailedFlush) {
            ending.noted.insert(of.export, of.noted);
        } else {
            ending.fail(&of.export, "the flush of its bdev has failed");
        }
        drop(stopping);
        drop(of.channel);
        self.end_stop();
    }

    /// Notes that no connection and no export is left.
    pub(crate) fn stopped(self: &Rc<Self>) {
        self.end_stop();
    }

    /// Goes on with the stop, of which no connection and no export is left: flushes the next bdev, or
    /// leaves the note, if there is to be one, and then calls the callback.
    fn end_stop(self: &Rc<Self>) {
        if self.flush_next() {
            return;
        }
        let mut stopping = self.stopping.borrow_mut();
        let Stopping::Ending(ending) = std::mem::take(&mut *stopping) else { return };
        let Ending { done, noted, failure, .. } = *ending;
        let writing = self.leave_note(noted, failure);
        let is_written = writing.is_none();
        *stopping = Stopping::LeavingNote(done, writing);
        drop(stopping);
        if is_written {
            self.note_is_left();
        }
    }

    /// Gives up the note, which is being written for too long.
    pub(crate) fn note_is_late(self: &Rc<Self>) {
        let mut stopping = self.stopping.borrow_mut();
        let Stopping::LeavingNote(_, writing) = &mut *stopping else { return };
        let Some(_) = writing.take_if(|writing| writing.replacing.abandon()) else { return };
        drop(stopping);
        spdk::error!("DST stops: the stop note takes too long to write, and is not waited for");
        self.note_is_left();
    }

    /// Does the last step of the stop.
    pub(crate) fn note_is_left(self: &Rc<Self>) {
        let Stopping::LeavingNote(done, _) = self.stopping.take() else { return };
        self.stop_groups();
        self.ticker.take();
        self.looker.take();
        Target::forget();
        done();
    }
}
