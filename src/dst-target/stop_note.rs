//! The file with the note of an orderly stop: see [`dst_broker::stop_note`].

use std::collections::BTreeMap;

use dst_broker::stop_note::{Noted, StopNote};
use dst_wire::Device;
use spdk::bdev::{Survives, survives};
use spdk::durable_file::{self, NotReplaced};

use crate::control::Target;
use crate::error::Error;
use crate::note_file::{NoteFile, here, read_once};

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

    /// Returns the instance whose completed requests this device has for certain, as the note says.
    /// `product` is what SPDK calls the kind of bdev.
    pub(crate) fn noted_predecessor(&self, export: &str, device: &Device, product: &str) -> Option<[u8; 16]> {
        let mut file = self.note.borrow_mut();
        let note = file.as_mut()?.found.as_mut()?;
        let survives = survives(product, device.write_cache);
        let predecessor = note.take(export, device, survives == Some(Survives::MachineRestart));
        predecessor.filter(|_| survives.is_some())
    }

    /// Begins to write a note about these exports, unless the stop was not an orderly one. Returns
    /// whether [`Target::note_is_left`] will be called.
    pub(crate) fn leave_note(&self, noted: BTreeMap<String, Noted>, failure: Option<String>) -> bool {
        let Some(path) = self.stop_note() else { return false };
        if let Some(why) = failure {
            spdk::warn!("DST leaves no stop note, since the stop was not an orderly one: {why}");
            return false;
        }
        let Some(machine) = here().filter(|_| !noted.is_empty()) else { return false };
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
        let begun = durable_file::replace(&path, content, written);
        if let Err(errno) = begun {
            spdk::error!("DST stop note {path} can't be written: {errno}");
        }
        begun.is_ok()
    }
}
