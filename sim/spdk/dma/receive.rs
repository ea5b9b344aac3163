//! Memory to receive into, from which a device takes the received data when it executes a write.
//!
//! Whoever receives writes into memory of their own, of which the chunk gets a copy as soon as they
//! look at it. So a chunk that is used again too early has other data when the device looks.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::errno::{Errno, Result};

/// The content of memory that nobody has written to yet, which is the tag of no write.
pub(super) const STALE: u8 = 0xa5;

struct Chunk {
    memory: RefCell<Vec<u8>>,
    is_held: Cell<bool>,
    pins: Cell<usize>,
}

/// A pool with a fixed number of chunks to receive into.
pub struct ReceivePool(Vec<Chunk>);

impl ReceivePool {
    /// Creates a pool of `count` chunks of `chunk_size` bytes.
    pub fn new(chunk_size: usize, count: usize) -> Result<Rc<ReceivePool>> {
        if chunk_size == 0 || count == 0 {
            return Err(Errno::EINVAL);
        }
        let memory = || RefCell::new(vec![STALE; chunk_size]);
        let chunk = || Chunk { memory: memory(), is_held: Cell::new(false), pins: Cell::new(0) };
        Ok(Rc::new(ReceivePool((0..count).map(|_| chunk()).collect())))
    }

    /// Returns how many chunks are pinned.
    pub fn pinned(&self) -> usize {
        self.0.iter().filter(|chunk| chunk.pins.get() > 0).count()
    }

    /// Takes a chunk. `None`: all are in use.
    pub fn take(self: &Rc<Self>) -> Option<ReceiveChunk> {
        let number = self.0.iter().position(|chunk| !chunk.is_held.get() && chunk.pins.get() == 0)?;
        self.0[number].is_held.set(true);
        let own = self.0[number].memory.borrow().clone();
        Some(ReceiveChunk { pool: Rc::clone(self), number, own })
    }
}

/// A chunk to receive into. When it is dropped, what is pinned of it stays as it is.
pub struct ReceiveChunk {
    pool: Rc<ReceivePool>,
    number: usize,
    own: Vec<u8>,
}

impl ReceiveChunk {
    fn chunk(&self) -> &Chunk {
        &self.pool.0[self.number]
    }

    /// Returns the chunk's pool.
    pub fn pool(&self) -> &Rc<ReceivePool> {
        &self.pool
    }

    /// Returns whether data of a [`DmaVec`] lies in the chunk.
    pub fn is_pinned(&self) -> bool {
        self.chunk().pins.get() > 0
    }

    /// Returns all of the chunk, for writing. Where `spdk/safe` panics, because the chunk is pinned,
    /// this does not: what comes of it is for the promises to find.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.own
    }

    /// Returns all of the chunk.
    pub fn bytes(&self) -> &[u8] {
        self.chunk().memory.borrow_mut().copy_from_slice(&self.own);
        &self.own
    }

    /// Returns what is in this part of the chunk, and keeps the chunk as it is.
    pub(super) fn keep(&self, part: Range<usize>) -> (&[u8], Pin) {
        self.chunk().pins.set(self.chunk().pins.get() + 1);
        let bytes = &self.bytes()[part.clone()];
        (bytes, Pin { pool: Rc::clone(&self.pool), number: self.number, part })
    }
}

impl Drop for ReceiveChunk {
    fn drop(&mut self) {
        self.chunk().is_held.set(false);
    }
}

/// Keeps a chunk as it is.
pub(super) struct Pin {
    pool: Rc<ReceivePool>,
    number: usize,
    part: Range<usize>,
}

impl Pin {
    pub fn count(&self) -> usize {
        self.pool.0[self.number].pins.get()
    }

    pub fn start(&self) -> usize {
        self.part.start
    }

    /// Reads what is in the part now.
    pub fn read(&self, to: &mut [u8]) {
        to.copy_from_slice(&self.pool.0[self.number].memory.borrow()[self.part.clone()]);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let pins = &self.pool.0[self.number].pins;
        pins.set(pins.get() - 1);
    }
}
