//! Looking for members and witnesses by their metadata, when an operator asks for it. It is never done by
//! itself: a bdev is a member because the operator names it.
//!
//! One bdev after the other is opened, for reading only, and closed again.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use dst_mirror::metadata::{Found, MetadataError, SEARCH_BYTES, Search, SearchStep};
use spdk::bdev::{BackendChannel, BackendDone, BackendIo, Desc, IoStatus};
use spdk::dma::{DMA_VEC_MAX, DmaPool};

use crate::device::{Wanted, cannot_open, check_suitable};
use crate::error::Error;
use crate::requests::content;

/// The size of a chunk of the memory for what is read, of which a read has up to [`DMA_VEC_MAX`].
const CHUNK: usize = SEARCH_BYTES as usize / DMA_VEC_MAX;

spdk::thread_local! {
    static SEARCHING: Cell<Option<Going>> = const { Cell::new(None) };
}

/// What becomes of the search that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    On,
    /// It ends with the read that is under way.
    ToItsEnd,
}

/// What was found on a bdev.
pub struct Seen {
    /// The name of the bdev.
    pub bdev: String,
    /// The metadata, or the reason why the bdev could not be searched or what it has can't be used. Bdevs
    /// that hold none are not mentioned.
    pub found: Result<Box<Found>, String>,
}

/// Who is told what was found.
type Done = Box<dyn FnOnce(Result<Vec<Seen>, Error>)>;

/// A search, which an I/O has while one is under way.
struct Run {
    /// The bdevs that are still to be searched.
    left: VecDeque<String>,
    back_bytes: u64,
    seen: Vec<Seen>,
    current: Option<Current>,
    memory: Rc<DmaPool>,
    /// Taken when it is called.
    done: Option<Done>,
}

/// The bdev that is being searched.
struct Current {
    name: String,
    search: Search,
    channel: Rc<BackendChannel>,
    /// Keeps the bdev open.
    _desc: Desc,
}

impl Current {
    fn open(name: &str, back_bytes: u64) -> Result<Current, Error> {
        let info = Wanted::new(name).find().ok_or_else(|| Error::NoBdev(name.to_owned()))?;
        check_suitable(&info)?;
        let search = Search::new(info.num_blocks, info.block_size, back_bytes);
        let search = search.map_err(|_| Error::Unsuitable {
            name: info.name.clone(),
            why: "it is too small or too large",
        })?;
        // A removal is noticed at the end of the read that is under way.
        let desc =
            Desc::open(&info.name, false, |_| {}).map_err(|errno| cannot_open(name, &info.name, errno))?;
        let channel = desc.handle().channel();
        let channel = channel.map_err(|errno| Error::Open { name: info.name.clone(), errno })?;
        Ok(Current { name: info.name, search, channel: Rc::new(channel), _desc: desc })
    }
}

/// Looks at the ends of these bdevs, and so many bytes before, for the metadata of mirrors. `done` is called
/// with what was found.
pub fn search(bdevs: Vec<String>, back_bytes: u64, done: impl FnOnce(Result<Vec<Seen>, Error>) + 'static) {
    if SEARCHING.get().is_some() {
        return done(Err(Error::Searching));
    }
    let memory = match DmaPool::new(CHUNK, DMA_VEC_MAX) {
        Ok(memory) => memory,
        Err(errno) => return done(Err(Error::Resources { what: "memory for a search", errno })),
    };
    SEARCHING.set(Some(Going::On));
    let run = Run {
        left: bdevs.into(),
        back_bytes,
        seen: Vec::new(),
        current: None,
        memory,
        done: Some(Box::new(done)),
    };
    proceed(Box::new(BackendIo::new(run)));
}

/// Ends the search that is going on, as the application stops.
pub(crate) fn stop() {
    if SEARCHING.get().is_some() {
        SEARCHING.set(Some(Going::ToItsEnd));
    }
}

/// Begins the next read, or tells what was found.
fn proceed(mut io: Box<BackendIo<Run>>) {
    loop {
        let run = &mut io.ctx;
        if SEARCHING.get() != Some(Going::On) {
            run.left.clear();
            run.current = None;
        }
        if run.current.is_none() {
            let Some(name) = run.left.pop_front() else { break };
            match Current::open(&name, run.back_bytes) {
                Ok(current) => run.current = Some(current),
                Err(error) => run.seen.push(Seen { bdev: name, found: Err(error.to_string()) }),
            }
            continue;
        }
        let Some(current) = &mut run.current else { continue };
        if current.channel.is_removed() {
            let bdev = current.name.clone();
            run.current = None;
            run.seen.push(Seen { bdev, found: Err("it was removed meanwhile".to_owned()) });
            continue;
        }
        match current.search.step() {
            SearchStep::Read(range) => {
                let bytes = range.count as usize * current.channel.block_size() as usize;
                assert!(io.data.take(&run.memory, bytes), "the search has the memory for itself");
                let channel = Rc::clone(&current.channel);
                return channel.read(io, range.start, range.count);
            }
            SearchStep::Done(result) => {
                let bdev = current.name.clone();
                run.current = None;
                match result {
                    Ok(found) => run.seen.push(Seen { bdev, found: Ok(found) }),
                    Err(MetadataError::Nothing) => {}
                    Err(error) => run.seen.push(Seen { bdev, found: Err(error.to_string()) }),
                }
            }
        }
    }
    SEARCHING.set(None);
    let seen = std::mem::take(&mut io.ctx.seen);
    if let Some(done) = io.ctx.done.take() {
        done(Ok(seen));
    }
}

impl BackendDone for Run {
    fn done(mut io: Box<BackendIo<Run>>, status: IoStatus) {
        let bytes = content(&io);
        io.data.release();
        let run = &mut io.ctx;
        if let Some(current) = &mut run.current {
            if status == IoStatus::Success {
                current.search.supply(&bytes);
            } else {
                let bdev = current.name.clone();
                run.current = None;
                run.seen.push(Seen { bdev, found: Err("it can't be read".to_owned()) });
            }
        }
        proceed(io);
    }
}
