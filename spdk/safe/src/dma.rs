//! DMA memory: pools of chunks, buffers made of a few chunks, and chunks to receive into, from which
//! the received data goes to a bdev without being copied.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use libc::iovec;
use spdk_sys as sys;

use crate::errno::{Errno, Result};

/// The maximum number of chunks in a [`DmaVec`].
pub const DMA_VEC_MAX: usize = 16;

/// The least alignment of a pool's memory: the most that any bdev requires (a page).
const ALIGNMENT: usize = 4096;

/// A fixed number of chunks of one size, all allocated when the pool is created. It belongs to one
/// SPDK thread.
pub struct DmaPool {
    base: NonNull<u8>,
    chunk_size: usize,
    count: usize,
    /// The numbers of the free chunks. The list has room for all, so that returning chunks never
    /// allocates.
    free: RefCell<Vec<u32>>,
}

impl DmaPool {
    /// Allocates `count` zeroed chunks of `chunk_size` bytes, each aligned to its size if that is a
    /// power of two, else to 4 KiB if it is a multiple of that. So a chunk of up to 2 MiB whose size
    /// is a power of two lies in one hugepage, and what lies in it is contiguous for a device, too.
    ///
    /// `EINVAL`: a parameter is zero, or the size overflows. `ENOMEM`: SPDK does not have that much
    /// contiguous DMA memory.
    pub fn new(chunk_size: usize, count: usize) -> Result<Rc<DmaPool>> {
        let numbers = u32::try_from(count).map_err(|_| Errno::EINVAL)?;
        let bytes = chunk_size.checked_mul(count).filter(|n| *n > 0).ok_or(Errno::EINVAL)?;
        let alignment = if chunk_size.is_power_of_two() { ALIGNMENT.max(chunk_size) } else { ALIGNMENT };
        // SAFETY: asks for memory of a nonzero size; the physical address is not wanted.
        let base = unsafe { sys::spdk_dma_zmalloc(bytes, alignment, ptr::null_mut()) };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::ENOMEM)?;
        Ok(Rc::new(DmaPool { base, chunk_size, count, free: RefCell::new((0..numbers).rev().collect()) }))
    }

    /// Returns the number of free chunks.
    pub fn available(&self) -> usize {
        self.free.borrow().len()
    }

    /// Returns the total number of chunks.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the size of a chunk in bytes.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    fn chunk(&self, number: u32) -> *mut u8 {
        // SAFETY: numbers come from `free`, which holds those below `count` only.
        unsafe { self.base.as_ptr().add(number as usize * self.chunk_size) }
    }
}

impl Drop for DmaPool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once; every DmaVec with a chunk holds an Rc of the
        // pool.
        unsafe { sys::spdk_dma_free(self.base.as_ptr().cast()) }
    }
}

/// The memory that a [`DmaVec`] keeps.
enum Memory {
    None,
    /// Chunks of this pool, for this vector alone.
    Chunks(Rc<DmaPool>),
    /// A part of what was received, which nobody changes.
    Pinned(Pin),
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

/// Who uses a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Users {
    /// Whether there is a [`ReceiveChunk`] of it.
    is_held: bool,
    /// The number of [`DmaVec`]s whose data lies in it.
    pins: u32,
}

impl Users {
    fn are_none(self) -> bool {
        self == Users::default()
    }
}

/// A fixed number of chunks to receive into. It belongs to one SPDK thread.
///
/// A chunk is held by whoever receives into it, and pinned by each [`DmaVec`] whose data lies in
/// it. It is free again when it is neither.
pub struct ReceivePool {
    chunks: Rc<DmaPool>,
    users: Box<[Cell<Users>]>,
    /// The number of chunks with pins.
    pinned: Cell<usize>,
}

impl ReceivePool {
    /// Allocates `count` zeroed chunks of `chunk_size` bytes.
    ///
    /// # Errors
    /// As [`DmaPool::new`].
    pub fn new(chunk_size: usize, count: usize) -> Result<Rc<ReceivePool>> {
        let chunks = DmaPool::new(chunk_size, count)?;
        let users = (0..count).map(|_| Cell::default()).collect();
        Ok(Rc::new(ReceivePool { chunks, users, pinned: Cell::new(0) }))
    }

    /// Returns how many chunks are pinned.
    pub fn pinned(&self) -> usize {
        self.pinned.get()
    }

    /// Takes a chunk. `None`: all are in use. HOT.
    pub fn take(self: &Rc<Self>) -> Option<ReceiveChunk> {
        let number = self.chunks.free.borrow_mut().pop()?;
        self.change(number, |users| users.is_held = true);
        Some(ReceiveChunk { pool: Rc::clone(self), number })
    }

    fn users(&self, number: u32) -> Users {
        self.users[number as usize].get()
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Users)) -> Users {
        let users = &self.users[number as usize];
        let mut now = users.get();
        change(&mut now);
        users.set(now);
        now
    }

    fn free_if_unused(&self, number: u32, users: Users) {
        if users.are_none() {
            // The list never grows, since it has room for all chunks of the pool.
            self.chunks.free.borrow_mut().push(number);
        }
    }
}

/// A chunk to receive into. When it is dropped, what is pinned of it stays as it is.
pub struct ReceiveChunk {
    pool: Rc<ReceivePool>,
    number: u32,
}

impl ReceiveChunk {
    /// Returns the chunk's pool.
    pub fn pool(&self) -> &Rc<ReceivePool> {
        &self.pool
    }

    /// Returns whether data of a [`DmaVec`] lies in the chunk.
    pub fn is_pinned(&self) -> bool {
        self.pool.users(self.number).pins > 0
    }

    /// Returns all of the chunk, for writing. HOT.
    ///
    /// # Panics
    /// If the chunk is pinned.
    pub fn room(&mut self) -> &mut [u8] {
        assert!(!self.is_pinned(), "a receive buffer must not change while a write is in it");
        let pool = &self.pool.chunks;
        // SAFETY: the pool's memory, initialised when it was made; `self` is the only holder of the
        // chunk, no `DmaVec` names it, and none can while `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(pool.chunk(self.number), pool.chunk_size) }
    }

    /// Returns all of the chunk.
    pub fn bytes(&self) -> &[u8] {
        let pool = &self.pool.chunks;
        // SAFETY: as in `room`; nobody changes the chunk while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(pool.chunk(self.number), pool.chunk_size) }
    }

    /// Makes this part of the chunk the data of `data`, to be read only. HOT.
    ///
    /// # Panics
    /// If the part is empty or not inside the chunk.
    pub fn pin(&self, part: Range<usize>, data: &mut DmaVec) {
        let len = part.len();
        assert!(len > 0 && part.end <= self.pool.chunks.chunk_size, "{part:?} is no part of a chunk");
        data.release();
        let users = self.pool.change(self.number, |users| users.pins += 1);
        if users.pins == 1 {
            self.pool.pinned.set(self.pool.pinned.get() + 1);
        }
        let base = self.pool.chunks.chunk(self.number).wrapping_add(part.start);
        data.iov[0] = iovec { iov_base: base.cast(), iov_len: len };
        (data.chunks, data.len) = (1, len);
        data.memory = Memory::Pinned(Pin { pool: Rc::clone(&self.pool), number: self.number });
    }
}

impl Drop for ReceiveChunk {
    fn drop(&mut self) {
        let users = self.pool.change(self.number, |users| users.is_held = false);
        self.pool.free_if_unused(self.number, users);
    }
}

/// Keeps a chunk as it is.
struct Pin {
    pool: Rc<ReceivePool>,
    number: u32,
}

impl Pin {
    /// Returns how many pins the chunk has, this one included.
    fn count(&self) -> usize {
        self.pool.users(self.number).pins as usize
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let users = self.pool.change(self.number, |users| users.pins -= 1);
        if users.pins == 0 {
            self.pool.pinned.set(self.pool.pinned.get() - 1);
        }
        self.pool.free_if_unused(self.number, users);
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

#[cfg(test)]
mod receive_tests {
    use super::*;

    /// These tests are linked without SPDK, and their memory is not DPDK's.
    // SAFETY: nothing else in these tests has this name, and the memory is leaked on purpose.
    #[unsafe(no_mangle)]
    extern "C" fn spdk_dma_free(_: *mut c_void) {}

    /// Returns a pool of two chunks of 16 bytes that are not DPDK's.
    fn pool() -> Rc<ReceivePool> {
        let base = NonNull::from(Box::leak(Box::new([0_u8; 32]))).cast();
        let chunks = Rc::new(DmaPool { base, chunk_size: 16, count: 2, free: RefCell::new(vec![1, 0]) });
        let users = (0..2).map(|_| Cell::default()).collect();
        Rc::new(ReceivePool { chunks, users, pinned: Cell::new(0) })
    }

    #[test]
    fn a_chunk_is_free_when_it_is_neither_held_nor_pinned() {
        let pool = pool();
        let mut chunk = pool.take().unwrap();
        chunk.room().copy_from_slice(b"0123456789abcdef");
        let (mut first, mut second) = (DmaVec::empty(), DmaVec::empty());
        chunk.pin(2..6, &mut first);
        chunk.pin(8..16, &mut second);
        assert_eq!((first.slice(0), first.slice(1), first.len()), (&b"2345"[..], &b"345"[..], 4));
        assert_eq!((first.pins(), second.pins(), pool.pinned()), (2, 2, 1));
        drop(chunk);
        let other = pool.take().expect("there is another one");
        assert!(!other.is_pinned() && pool.take().is_none(), "a pinned chunk is free");
        first.release();
        assert_eq!((first.pins(), second.pins(), pool.pinned()), (0, 1, 1));
        assert!(pool.take().is_none(), "a pinned chunk is free");
        assert_eq!(second.slice(0), b"89abcdef");
        drop(second);
        assert_eq!(pool.pinned(), 0);
        let again = pool.take().expect("it is free");
        assert_eq!(again.bytes(), b"0123456789abcdef");
        // One whose last pin goes while it is held is not free.
        again.pin(0..16, &mut first);
        first.release();
        assert!(pool.take().is_none());
        drop((again, other));
        assert!(pool.take().is_some());
    }

    #[test]
    #[should_panic = "must not change while a write is in it"]
    fn a_pinned_chunk_is_not_received_into() {
        let pool = pool();
        let mut chunk = pool.take().unwrap();
        let mut data = DmaVec::empty();
        chunk.pin(0..1, &mut data);
        chunk.room();
    }

    #[test]
    #[should_panic = "received data must not change"]
    fn pinned_data_is_not_changed() {
        let pool = pool();
        let mut data = DmaVec::empty();
        pool.take().unwrap().pin(0..4, &mut data);
        data.copy_in(0, &[1]);
    }
}
