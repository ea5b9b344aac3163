//! Small files whose content survives the machine, and is the old one or the new one at any moment.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

pub use spdk_contract::durable_file::NotReplaced;
use spdk_sys as sys;

use crate::errno::{self, Errno};
use crate::thread::Thread;

/// What the name of the new file has at its end until the file takes the place of the old one.
const NEW: &str = ".new";

/// Reads a file, of at most `max` bytes. Returns `None` if there is no file of that name. Any thread may
/// call it. It makes a few system calls, so it must not be called where I/O waits.
///
/// # Errors
/// The file can't be read, is not a regular one, or is longer.
pub fn read(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    // O_NONBLOCK keeps a FIFO from waiting for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(Some(content))
}

/// A replacement that is under way. Dropping this changes nothing.
pub struct Replacing(Arc<Mutex<Option<Thread>>>);

impl Replacing {
    /// Gives up waiting: `done` is not called, unless its message is under way already, and the SPDK
    /// thread may exit. The file may still be replaced. Returns false, and changes nothing, if `done`
    /// is about to be called.
    pub fn abandon(&self) -> bool {
        match self.0.try_lock() {
            Ok(mut home) => *home = None,
            Err(TryLockError::Poisoned(home)) => *home.into_inner() = None,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }
}

/// Replaces a file's content, and then calls `done` on the calling SPDK thread, which must not exit
/// before, unless the replacement is abandoned. An OS thread of its own does the work, as that takes as
/// long as the disk does.
///
/// # Errors
/// `EAGAIN`: there can't be another OS thread. `done` is not called.
///
/// # Panics
/// If no SPDK thread is running.
pub fn replace<F>(path: &str, content: Vec<u8>, done: F) -> errno::Result<Replacing>
where
    F: FnOnce(Result<(), NotReplaced>) + Send + 'static,
{
    let home = Thread::current().expect("a file is replaced from an SPDK thread");
    let home = Arc::new(Mutex::new(Some(home)));
    let (waiting, path) = (Arc::clone(&home), path.to_owned());
    let write = move || {
        // On a reactor's core the thread would take that core's time.
        // SAFETY: affects only the calling thread.
        unsafe { sys::spdk_unaffinitize_thread() };
        let result = replace_now(Path::new(&path), &content, File::sync_all);
        // The lock is held until the message is sent, so that the thread does not exit meanwhile.
        if let Some(home) = &*home.lock().unwrap_or_else(PoisonError::into_inner) {
            home.send_patiently(move || done(result));
        }
    };
    let spawned = std::thread::Builder::new().name("dst_state".to_owned()).spawn(write);
    spawned.map(|_| Replacing(waiting)).map_err(|_| Errno::EAGAIN)
}

/// Removes a file, so that it does not come back even if the machine crashes. Any thread may call it.
/// It waits for the disk, so it must not be called where I/O waits.
///
/// # Errors
/// The file can't be removed, or its folder can't be synced; then the file may come back after a crash.
pub fn remove(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it is not a file"))?;
    let folder = File::open(folder)?;
    fs::remove_file(path)?;
    folder.sync_all()
}

/// Writes a new file, syncs it, gives it the name, and syncs the folder with `sync_folder`.
fn replace_now(
    path: &Path,
    content: &[u8],
    sync_folder: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), NotReplaced> {
    let folder = rename_new(path, content).map_err(NotReplaced::Unchanged)?;
    sync_folder(&folder).map_err(NotReplaced::InDoubt)
}

/// Writes a new file, syncs it, and gives it the name. Returns its folder.
fn rename_new(path: &Path, content: &[u8]) -> io::Result<File> {
    let folder = path.parent().filter(|folder| folder.is_dir());
    let folder = File::open(folder.ok_or_else(|| io::Error::other("there is no such folder"))?)?;
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = Path::new(&new);
    let written = write_whole(new, content).and_then(|()| fs::rename(new, path));
    if written.is_err() {
        // What is left of it would be overwritten the next time.
        let _ = fs::remove_file(new);
    }
    written.map(|()| folder)
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{File, NotReplaced, Path, fs, io, read, remove, replace_now};
    use tempfile::tempdir;

    fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
        replace_now(path, content, File::sync_all).map_err(|error| match error {
            NotReplaced::Unchanged(error) => error,
            NotReplaced::InDoubt(error) => panic!("{error}"),
        })
    }

    #[test]
    fn content_is_replaced_as_a_whole() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(read(&path, 9).unwrap(), None);
        replace(&path, b"one").unwrap();
        fs::write(folder.path().join("state.new"), "what a crash has left").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 3).unwrap().unwrap(), b"two");
        assert!(read(&path, 2).unwrap_err().to_string().contains("more than 2 bytes"));
        assert!(!folder.path().join("state.new").exists());
    }

    #[test]
    fn a_file_is_removed_once() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("note");
        replace(&path, b"one").unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path, 9).unwrap(), None);
        assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(remove(folder.path()).is_err() && folder.path().is_dir(), "a folder is no note");
    }

    #[test]
    fn what_fails_changes_nothing() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, b"one").unwrap();
        fs::create_dir(folder.path().join("state.new")).unwrap();
        assert!(replace(&path, b"two").is_err());
        assert_eq!(read(&path, 9).unwrap().unwrap(), b"one");
        assert!(
            replace(&folder.path().join("none/state"), b"two")
                .unwrap_err()
                .to_string()
                .contains("no such folder")
        );
        assert!(replace(folder.path(), b"two").is_err(), "a folder has the name");
        assert!(read(folder.path(), 9).unwrap_err().to_string().contains("not a regular file"));
        let link = folder.path().join("other.new");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(replace(&folder.path().join("other"), b"two").is_err(), "a link is not followed");
        assert_eq!(read(&path, 9).unwrap().unwrap(), b"one");
    }

    #[test]
    fn a_folder_that_can_not_be_synced_leaves_the_content_in_doubt() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, b"one").unwrap();
        let failed = replace_now(&path, b"two", |_| Err(io::Error::other("the disk is broken")));
        assert!(matches!(failed, Err(NotReplaced::InDoubt(_))), "{failed:?}");
        assert_eq!(read(&path, 9).unwrap().unwrap(), b"two");
    }
}
