//! Small files that survive processes, on one disk that all processes of the world share.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use world::slots::Slot;
use world::with;

use crate::errno::Result;
use crate::thread::Thread;

#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Slot for Files {}

/// Reads a file. Returns `None` if no file has this name.
///
/// # Errors
///
/// The file is longer than `max` bytes.
pub fn read(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let name = path.to_string_lossy();
    let found = with(|w| w.slots.get::<Files>().0.get(&*name).cloned());
    match found {
        Some(content) if content.len() > max => Err(io::Error::other("it is too long")),
        found => Ok(found),
    }
}

/// The maximum number of turns until the disk has written a file, and again until it reports that.
const TURNS_MAX: u64 = 300;

/// Replaces a file's content some turns later, and calls `done` some more turns after that. The
/// process may die before the file is written, or afterwards before it learns of that.
///
/// # Errors
///
/// The thread is gone.
pub fn replace<F>(path: &str, content: Vec<u8>, done: F) -> Result<()>
where
    F: FnOnce(io::Result<()>) + Send + 'static,
{
    let home = Thread::current().expect("a file is replaced from an SPDK thread");
    let name = path.to_owned();
    let (to_write, to_say) = world::dice(|rng| (rng.below(TURNS_MAX), rng.below(TURNS_MAX)));
    let write = move || {
        with(|w| w.slots.get::<Files>().0.insert(name, content));
        // If the thread is gone, nobody waits for the result any more.
        let _ = after(home, to_say, Box::new(move || done(Ok(()))));
    };
    after(home, to_write, Box::new(write))
}

/// Calls `f` on a thread after this many turns.
fn after(home: Thread, turns: u64, f: Box<dyn FnOnce() + Send>) -> Result<()> {
    match turns {
        0 => home.send(f),
        _ => home.send(move || {
            let _ = after(home, turns - 1, f);
        }),
    }
}
