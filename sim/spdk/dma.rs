//! Memory that devices can reach. Only the number of its chunks is simulated, except for those that
//! are received into.
//!
//! Whoever receives into a chunk writes into memory of their own, of which the chunk gets a copy as
//! soon as they look at it. So a chunk that is used again too early has other data when the device
//! looks.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::errno::{Errno, Result};

/// The maximum number of chunks of a [`DmaVec`].
pub const DMA_VEC_MAX: usize = 16;

/// The content of memory that nobody has written to yet, which is the tag of no write.
const STALE: u8 = 0xa5;

/// A pool with a fixed number of chunks of one size.
pub struct DmaPool {
    chunk_size: usize,
    count: usize,
    free: Cell<usize>,
}

impl DmaPool {
    /// Creates a pool of `count` chunks of `chunk_size` bytes.
    pub fn new(chunk_size: usize, count: usize) -> Result<Rc<DmaPool>> {
        if chunk_size == 0 || count == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Rc::new(DmaPool { chunk_size, count, free: Cell::new(count) }))
    }

    /// Returns the number of free chunks.
    pub fn available(&self) -> usize {
        self.free.get()
    }

    /// Returns the number of all chunks.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the size of a chunk in bytes.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }
}

/// Memory of up to [`DMA_VEC_MAX`] chunks of a pool, with a length in bytes.
#[derive(Default)]
pub struct DmaVec {
    pool: Option<Rc<DmaPool>>,
    chunks: usize,
    /// The part of a chunk that the data lies in.
    pin: Option<Pin>,
    /// The data, or what was in that part when it was last looked at.
    data: Vec<u8>,
}

impl DmaVec {
    /// Returns a value without memory.
    pub const fn empty() -> DmaVec {
        DmaVec { pool: None, chunks: 0, pin: None, data: Vec::new() }
    }

    /// Returns the present memory to its pool, then takes `len` bytes from `pool`, all or nothing.
    /// Returns whether there was enough.
    pub fn take(&mut self, pool: &Rc<DmaPool>, len: usize) -> bool {
        self.release();
        let chunks = len.div_ceil(pool.chunk_size);
        if chunks > DMA_VEC_MAX || chunks > pool.free.get() {
            return false;
        }
        pool.free.set(pool.free.get() - chunks);
        self.chunks = chunks;
        self.data.clear();
        self.data.resize(len, STALE);
        self.pool = Some(Rc::clone(pool));
        true
    }

    /// Returns all memory to the pool.
    pub fn release(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.free.set(pool.free.get() + self.chunks);
            assert!(pool.free.get() <= pool.count, "more was given back than there was");
        }
        self.pin = None;
        self.chunks = 0;
        self.data.clear();
    }

    /// Returns how many vectors have data in the same [`ReceiveChunk`], this one included; 0: the
    /// data does not lie in one.
    pub fn pins(&self) -> usize {
        self.pin.as_ref().map_or(0, Pin::count)
    }

    /// Returns whether the data begins at a multiple of so many bytes.
    pub(crate) fn is_aligned(&self, alignment: usize) -> bool {
        self.pin.as_ref().is_none_or(|pin| pin.start() % alignment == 0)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Returns whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Copies `src` to byte `offset` of the memory.
    pub fn copy_in(&mut self, offset: usize, src: &[u8]) {
        assert!(self.pin.is_none(), "received data must not change");
        self.data[offset..offset + src.len()].copy_from_slice(src);
    }

    /// Returns the bytes from `offset` on.
    pub fn slice(&self, offset: usize) -> &[u8] {
        &self.data[offset.min(self.data.len())..]
    }

    /// Returns the bytes from `offset` on, for writing.
    pub fn slice_mut(&mut self, offset: usize) -> &mut [u8] {
        assert!(self.pin.is_none(), "received data must not change");
        let from = offset.min(self.data.len());
        &mut self.data[from..]
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.pin.is_none(), "received data must not change");
        &mut self.data
    }

    /// Returns the data as the device finds it now. Only for devices and tests.
    pub fn now(&mut self) -> &mut [u8] {
        if let Some(pin) = &self.pin {
            pin.read(&mut self.data);
        }
        &mut self.data
    }
}

impl Drop for DmaVec {
    fn drop(&mut self) {
        self.release();
    }
}

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

    /// Makes this part of the chunk the data of `data`, to be read only.
    pub fn pin(&self, part: Range<usize>, data: &mut DmaVec) {
        assert!(!part.is_empty() && part.end <= self.own.len(), "{part:?} is no part of a chunk");
        data.release();
        self.chunk().pins.set(self.chunk().pins.get() + 1);
        data.data.extend_from_slice(&self.bytes()[part.clone()]);
        data.pin = Some(Pin { pool: Rc::clone(&self.pool), number: self.number, part });
    }
}

impl Drop for ReceiveChunk {
    fn drop(&mut self) {
        self.chunk().is_held.set(false);
    }
}

/// Keeps a chunk as it is.
struct Pin {
    pool: Rc<ReceivePool>,
    number: usize,
    part: Range<usize>,
}

impl Pin {
    fn count(&self) -> usize {
        self.pool.0[self.number].pins.get()
    }

    fn start(&self) -> usize {
        self.part.start
    }

    /// Reads what is in the part now.
    fn read(&self, to: &mut [u8]) {
        to.copy_from_slice(&self.pool.0[self.number].memory.borrow()[self.part.clone()]);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let pins = &self.pool.0[self.number].pins;
        pins.set(pins.get() - 1);
    }
}
