//! Small files that survive processes, on one disk that all processes of the world share.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub use spdk_contract::durable_file::NotReplaced;
use world::slots::Slot;
use world::with;

use crate::errno::Result;
use crate::thread::Thread;

#[derive(Default)]
struct Files {
    contents: BTreeMap<String, Vec<u8>>,
    /// How many of 1,000 replacements fail.
    failures: u64,
    /// Whether replacements that begin now never end.
    is_hung: bool,
}

impl Slot for Files {}

/// Reads a file. Returns `None` if no file has this name.
///
/// # Errors
///
/// The file is longer than `max` bytes.
pub fn read(path: &Path, max: usize) -> io::Result<Option<Vec<u8>>> {
    let name = path.to_string_lossy();
    let found = with(|w| w.slots.get::<Files>().contents.get(&*name).cloned());
    match found {
        Some(content) if content.len() > max => Err(io::Error::other("it is too long")),
        found => Ok(found),
    }
}

/// Removes a file.
///
/// # Errors
///
/// No file has this name.
pub fn remove(path: &Path) -> io::Result<()> {
    let name = path.to_string_lossy();
    let found = with(|w| w.slots.get::<Files>().contents.remove(&*name));
    found.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Puts a file there.
pub fn put(name: &str, content: Vec<u8>) {
    with(|w| w.slots.get::<Files>().contents.insert(name.to_owned(), content));
}

/// Has so many of 1,000 replacements fail from now on.
pub fn set_failures(failures: u64) {
    with(|w| w.slots.get::<Files>().failures = failures);
}

/// Has replacements that begin from now on never end.
pub fn hang() {
    with(|w| w.slots.get::<Files>().is_hung = true);
}

/// Loses a file, or all of its content from a random byte on.
pub fn damage(name: &str, is_torn: bool) {
    let at = world::dice(|rng| rng.bits());
    with(|w| {
        let contents = &mut w.slots.get::<Files>().contents;
        match contents.get_mut(name) {
            Some(content) if is_torn && !content.is_empty() => {
                content.truncate((at % content.len() as u64) as usize);
            }
            _ => drop(contents.remove(name)),
        }
    });
}

/// How a replacement ends.
enum Fate {
    Replaced,
    Unchanged,
    /// It fails, and the file has the new content if this is true.
    InDoubt(bool),
}

fn fate() -> Fate {
    let failures = with(|w| w.slots.get::<Files>().failures);
    if failures == 0 {
        return Fate::Replaced;
    }
    world::dice(|rng| match rng.chance(failures) {
        false => Fate::Replaced,
        true if rng.chance(500) => Fate::Unchanged,
        true => Fate::InDoubt(rng.chance(500)),
    })
}

/// The maximum number of turns until the disk has written a file, and again until it reports that.
const TURNS_MAX: u64 = 300;

/// A replacement that is under way. Dropping this changes nothing.
pub struct Replacing(Arc<AtomicBool>);

impl Replacing {
    /// Gives up waiting: `done` is not called from now on. The file may still be replaced. Returns true,
    /// since `done` is not about to be called.
    pub fn abandon(&self) -> bool {
        self.0.store(true, Relaxed);
        true
    }
}

/// Replaces a file's content some turns later, and calls `done` some more turns after that. The
/// process may die before the file is written, or afterwards before it learns of that.
///
/// # Errors
///
/// The thread is gone.
pub fn replace<F>(path: &str, content: Vec<u8>, done: F) -> Result<Replacing>
where
    F: FnOnce(std::result::Result<(), NotReplaced>) + Send + 'static,
{
    let home = Thread::current().expect("a file is replaced from an SPDK thread");
    let name = path.to_owned();
    let (to_write, to_say) = world::dice(|rng| (rng.below(TURNS_MAX), rng.below(TURNS_MAX)));
    let fate = fate();
    let is_abandoned = Arc::new(AtomicBool::new(false));
    let replacing = Replacing(Arc::clone(&is_abandoned));
    if with(|w| w.slots.get::<Files>().is_hung) {
        return Ok(replacing);
    }
    let done = move |result| {
        if !is_abandoned.load(Relaxed) {
            done(result);
        }
    };
    let write = move || {
        if matches!(fate, Fate::Replaced | Fate::InDoubt(true)) {
            with(|w| w.slots.get::<Files>().contents.insert(name, content));
        }
        let error = io::Error::other("the disk is broken");
        let result = match fate {
            Fate::Replaced => Ok(()),
            Fate::Unchanged => Err(NotReplaced::Unchanged(error)),
            Fate::InDoubt(_) => Err(NotReplaced::InDoubt(error)),
        };
        // If the thread is gone, nobody waits for the result any more.
        let _ = after(home, to_say, Box::new(move || done(result)));
    };
    after(home, to_write, Box::new(write))?;
    Ok(replacing)
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
