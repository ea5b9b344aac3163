//! The file with the note of an orderly stop: see [`dst_broker::stop_note`].

use std::collections::BTreeMap;

use dst_broker::stop_note::{Noted, StopNote};
use dst_wire::Device;
use spdk::bdev::{Survives, survives};
use spdk::durable_file::{self, NotReplaced};
use spdk::poller::Poller;

use crate::control::Target;
use crate::error::Error;
use crate::note_file::{NoteFile, here, read_once};
use crate::stopping::Writing;

impl Target {
    /// Uses the note that the previous start has left in this file, and leaves one there when this one
    /// has stopped in order. The file is removed for good before anybody is told anything from it.
    /// This waits for the disk, for some ms, and is therefore for the start.
    ///
    /// # Errors
    /// Fails if there is a listener or an export already, unless the target has this file.
    pub fn set_stop_note(&self, path: &str) -> Result<(), Error> {
        if self.stop_note().as_deref() == Some(path) {
            return Ok(());
        }
        self.check_unused()?;
        let found = match read_once(path) {
            Ok(found) => found,
            Err(why) => {
                spdk::warn!("DST stop note {path} {why}: it is not used");
                None
            }
        };
        if let Some(note) = &found {
            let count = note.exports.len();
            spdk::notice!("DST stop note {path}: the previous target stopped in order, with {count} exports");
        }
        *self.note.borrow_mut() = Some(NoteFile { path: path.to_owned(), found });
        Ok(())
    }

    /// Returns the path of the file for the note, or `None` if there is to be none.
    pub fn stop_note(&self) -> Option<String> {
        self.note.borrow().as_ref().map(|file| file.path.clone())
    }

    /// Returns the instances whose completed requests this device has for certain, as the note says.
    /// `product` is what SPDK calls the kind of bdev.
    pub(crate) fn noted_predecessors(&self, export: &str, device: &Device, product: &str) -> Vec<[u8; 16]> {
        let mut file = self.note.borrow_mut();
        let Some(note) = file.as_mut().and_then(|file| file.found.as_mut()) else { return Vec::new() };
        let survives = survives(product, device.write_cache);
        let predecessors = note.take(export, device, survives == Some(Survives::MachineRestart));
        if survives.is_some() { predecessors } else { Vec::new() }
    }

    /// Begins to write a note about these exports, unless the stop was not an orderly one.
    /// [`Target::note_is_left`] follows if a note is returned.
    pub(crate) fn leave_note(
        &self,
        noted: BTreeMap<String, Noted>,
        failure: Option<String>,
    ) -> Option<Writing> {
        let path = self.stop_note()?;
        if let Some(why) = failure {
            spdk::warn!("DST leaves no stop note, since the stop was not an orderly one: {why}");
            return None;
        }
        let machine = here().filter(|_| !noted.is_empty())?;
        let count = noted.len();
        let content = StopNote { machine, exports: noted }.encode().into_bytes();
        let of = path.clone();
        let written = move |result: Result<(), NotReplaced>| {
            match result {
                Ok(()) => spdk::notice!("DST leaves stop note {of}, with {count} exports"),
                // If the file is there all the same, what it says is true.
                Err(error) => spdk::error!("DST stop note {of} can't be written: {error}"),
            }
            Target::with(Target::note_is_left);
        };
        let late = || {
            Target::with(Target::note_is_late);
            true
        };
        let begun = Poller::register(self.drain_timeout_us(), late).and_then(|_timer| {
            let replacing = durable_file::replace(&path, content, written)?;
            Ok(Writing { replacing, _timer })
        });
        begun.inspect_err(|errno| spdk::error!("DST stop note {path} can't be written: {errno}")).ok()
    }
}
