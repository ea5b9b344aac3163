//! DMA memory: pools of chunks, and buffers made of a few chunks.

mod pool;
mod receive;
#[cfg(test)]
mod receive_tests;

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::rc::Rc;

use libc::iovec;

pub(crate) use self::pool::ALIGNMENT;
pub use self::pool::DmaPool;
pub use self::receive::{ReceiveChunk, ReceivePool};

/// The maximum number of chunks in a [`DmaVec`].
pub const DMA_VEC_MAX: usize = 16;

/// The memory that a [`DmaVec`] keeps.
enum Memory {
    None,
    /// Chunks of this pool, for this vector alone.
    Chunks(Rc<DmaPool>),
    /// A part of what was received, which nobody changes.
    Pinned(receive::Pin),
}

/// Up to [`DMA_VEC_MAX`] chunks of a pool, or a part of a [`ReceiveChunk`], with a length in bytes.
pub struct DmaVec {
    memory: Memory,
    len: usize,
    chunks: usize,
    numbers: [u32; DMA_VEC_MAX],
    /// The vectors for the backend: one entry for each chunk, `len` bytes in total.
    iov: [iovec; DMA_VEC_MAX],
}

impl DmaVec {
    /// Creates a vector without memory.
    pub const fn empty() -> DmaVec {
        DmaVec {
            memory: Memory::None,
            len: 0,
            chunks: 0,
            numbers: [0; DMA_VEC_MAX],
            iov: [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; DMA_VEC_MAX],
        }
    }

    /// Returns this vector's memory to its pool and takes `len` bytes from `pool`, all or nothing.
    /// Returns false if the pool is short, or if `len` needs more than [`DMA_VEC_MAX`] chunks. The
    /// bytes hold arbitrary earlier data. HOT.
    pub fn take(&mut self, pool: &Rc<DmaPool>, len: usize) -> bool {
        self.release();
        let chunks = len.div_ceil(pool.chunk_size);
        if chunks > DMA_VEC_MAX {
            return false;
        }
        let mut free = pool.free.borrow_mut();
        let Some(rest) = free.len().checked_sub(chunks) else {
            return false;
        };
        let mut left = len;
        for (i, number) in free.drain(rest..).enumerate() {
            let piece = left.min(pool.chunk_size);
            self.numbers[i] = number;
            self.iov[i] = iovec { iov_base: pool.chunk(number).cast::<c_void>(), iov_len: piece };
            left -= piece;
        }
        drop(free);
        self.chunks = chunks;
        self.len = len;
        if chunks > 0 {
            self.memory = Memory::Chunks(Rc::clone(pool));
        }
        true
    }

    /// Returns all memory to its pool. HOT.
    pub fn release(&mut self) {
        if let Memory::Chunks(pool) = std::mem::replace(&mut self.memory, Memory::None) {
            // The list never grows, since it has room for all chunks of the pool.
            pool.free.borrow_mut().extend_from_slice(&self.numbers[..self.chunks]);
        }
        self.chunks = 0;
        self.len = 0;
    }

    /// Returns how many vectors have data in the same [`ReceiveChunk`], this one included; 0: the
    /// data does not lie in one. HOT.
    pub fn pins(&self) -> usize {
        if let Memory::Pinned(pin) = &self.memory { pin.count() } else { 0 }
    }

    /// Returns whether the data lies in a [`ReceiveChunk`], where it must not be changed.
    pub(crate) fn is_pinned(&self) -> bool {
        matches!(self.memory, Memory::Pinned(_))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `src` to byte `offset`.
    ///
    /// # Panics
    /// If `src` does not fit, or the data lies in a [`ReceiveChunk`].
    pub fn copy_in(&mut self, offset: usize, src: &[u8]) {
        assert!(!self.is_pinned(), "received data must not change");
        assert!(offset.checked_add(src.len()).is_some_and(|end| end <= self.len), "past the end of a DmaVec");
        let mut done = 0;
        for (base, len) in self.pieces(offset, src.len()) {
            // SAFETY: `pieces` returns parts of this vector's own chunks; `src` is another object.
            unsafe { ptr::copy_nonoverlapping(src[done..done + len].as_ptr(), base, len) };
            done += len;
        }
    }

    /// Returns the longest slice of contiguous bytes from `offset` on, empty at the end. Used for
    /// digests. HOT.
    pub fn slice(&self, offset: usize) -> &[u8] {
        match self.pieces(offset, usize::MAX).next() {
            // SAFETY: a part of one of this vector's chunks, initialised when the pool was made,
            // borrowed with `self`, or of a receive chunk, which nobody changes while it is pinned.
            Some((base, len)) => unsafe { std::slice::from_raw_parts(base, len) },
            None => &[],
        }
    }

    /// Returns the same as [`DmaVec::slice`], for writing.
    ///
    /// # Panics
    /// If the data lies in a [`ReceiveChunk`].
    pub fn slice_mut(&mut self, offset: usize) -> &mut [u8] {
        assert!(!self.is_pinned(), "received data must not change");
        match self.pieces(offset, usize::MAX).next() {
            // SAFETY: as in `slice`, borrowed mutably with `self`.
            Some((base, len)) => unsafe { std::slice::from_raw_parts_mut(base, len) },
            None => &mut [],
        }
    }

    /// Returns the contiguous pieces of `[skip, skip + max)`, cut at the end.
    #[inline]
    pub(crate) fn pieces(&self, skip: usize, max: usize) -> impl Iterator<Item = (*mut u8, usize)> + '_ {
        cut(self.entries().iter().map(|v| (v.iov_base.cast::<u8>(), v.iov_len)), skip, max)
    }

    /// Returns the entries in use.
    #[inline]
    pub(crate) fn entries(&self) -> &[iovec] {
        &self.iov[..self.chunks]
    }
}

impl Drop for DmaVec {
    fn drop(&mut self) {
        self.release();
    }
}

impl Default for DmaVec {
    fn default() -> Self {
        Self::empty()
    }
}

impl ReceiveChunk {
    /// Makes this part of the chunk the data of `data`, to be read only. HOT.
    ///
    /// # Panics
    /// If the part is empty or not inside the chunk.
    pub fn pin(&self, part: Range<usize>, data: &mut DmaVec) {
        let len = part.len();
        assert!(len > 0 && part.end <= self.bytes().len(), "{part:?} is no part of a chunk");
        data.release();
        let (base, pin) = self.keep(part.start);
        data.iov[0] = iovec { iov_base: base.cast(), iov_len: len };
        (data.chunks, data.len) = (1, len);
        data.memory = Memory::Pinned(pin);
    }
}

/// Returns the part `[skip, skip + max)` of a list of buffers.
#[inline]
pub(crate) fn cut(
    entries: impl Iterator<Item = (*mut u8, usize)>,
    mut skip: usize,
    max: usize,
) -> impl Iterator<Item = (*mut u8, usize)> {
    let mut left = max;
    entries
        .map(move |(base, len)| {
            let before = skip.min(len);
            skip -= before;
            // `before` is at most `len`, so the pointer stays inside the buffer; nothing is
            // accessed.
            (base.wrapping_add(before), len - before)
        })
        .filter(|(_, len)| *len > 0)
        .map_while(move |(base, len)| {
            let len = len.min(left);
            left -= len;
            (len > 0).then_some((base, len))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_out_the_middle() {
        let base = ptr::null_mut::<u8>();
        let entries = [(base, 4), (base.wrapping_add(100), 0), (base.wrapping_add(200), 8)];
        let part: Vec<_> = cut(entries.into_iter(), 3, 4).collect();
        assert_eq!(part, [(base.wrapping_add(3), 1), (base.wrapping_add(200), 3)]);
        assert_eq!(cut(entries.into_iter(), 12, 4).count(), 0);
    }
}
