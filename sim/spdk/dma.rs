//! Memory that devices can reach. Only the number of its chunks is simulated.

mod receive;

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use self::receive::STALE;
pub use self::receive::{ReceiveChunk, ReceivePool};
use crate::errno::{Errno, Result};

/// The maximum number of chunks of a [`DmaVec`].
pub const DMA_VEC_MAX: usize = 16;

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
    pin: Option<receive::Pin>,
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
        self.pin.as_ref().map_or(0, receive::Pin::count)
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

impl ReceiveChunk {
    /// Makes this part of the chunk the data of `data`, to be read only.
    pub fn pin(&self, part: Range<usize>, data: &mut DmaVec) {
        assert!(!part.is_empty() && part.end <= self.bytes().len(), "{part:?} is no part of a chunk");
        data.release();
        let (bytes, pin) = self.keep(part);
        data.data.extend_from_slice(bytes);
        data.pin = Some(pin);
    }
}
