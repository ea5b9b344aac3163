//! The file of a stop note, and its removal before its use.

use std::path::Path;

use dst_broker::stop_note::{Machine, NOTE_MAX, NoteError, StopNote};
use dst_session::mutation::{Mutation, is_on};
use spdk::durable_file;
use spdk::machine::{boot_id, machine_id};

/// The file for the note.
pub(crate) struct NoteFile {
    /// The file's absolute path.
    pub path: String,
    /// The note of the previous start, if it has left one, without the exports that have taken their
    /// bdevs since. The file is gone.
    pub found: Option<StopNote>,
}

/// Returns the machine that this process runs on, or `None` if its last boot can't be told.
pub(crate) fn here() -> Option<Machine> {
    Some(Machine { boot: boot_id()?, id: machine_id() })
}

/// Returns the note in a file, and removes the file for good.
///
/// # Errors
/// Returns the reason why there is a file whose note is not to be used. A file that is not a note is
/// not removed.
pub(crate) fn read_once(path: &str) -> Result<Option<StopNote>, String> {
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
