//! The file with the note of an orderly stop: see [`dst_broker::stop_note`].

use std::collections::BTreeMap;
use std::path::Path;

use dst_broker::stop_note::{Machine, NOTE_MAX, NoteError, Noted, StopNote};
use dst_session::mutation::{Mutation, is_on};
use dst_wire::Device;
use spdk::bdev::{Survives, survives};
use spdk::durable_file::{self, NotReplaced};
use spdk::machine::{boot_id, machine_id};

use crate::control::Target;
use crate::error::Error;

/// The file for the note.
pub(crate) struct NoteFile {
    /// The file's absolute path.
    path: String,
    /// The note of the previous start, if it has left one, without the exports that have taken their
    /// bdevs since. The file is gone.
    found: Option<StopNote>,
}

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
        let survives = survives(product);
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

/// Returns the machine that this process runs on, or `None` if its last boot can't be told.
fn here() -> Option<Machine> {
    Some(Machine { boot: boot_id()?, id: machine_id() })
}

/// Returns the note in a file, and removes the file for good.
///
/// # Errors
/// Returns the reason why there is a file whose note is not to be used. A file that is not a note is
/// not removed.
fn read_once(path: &str) -> Result<Option<StopNote>, String> {
    let file = Path::new(path);
    let unreadable = |error| format!("can't be read: {error}");
    let Some(content) = durable_file::read(file, NOTE_MAX).map_err(unreadable)? else { return Ok(None) };
    let here = here().ok_or("can't be judged, since the machine's boot id can't be read")?;
    let note = StopNote::decode(&content, &here);
    if note != Err(NoteError::Damaged) && !is_on(Mutation::NoteStays) {
        durable_file::remove(file).map_err(|error| format!("can't be removed: {error}"))?;
    }
    note.map(Some).map_err(|error| error.to_string())
}
