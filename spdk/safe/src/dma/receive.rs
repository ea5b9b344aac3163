//! DMA memory to receive into, from which the received data goes to a bdev without being copied.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use libc::iovec;

use super::{DmaPool, DmaVec, Memory};
use crate::errno::Result;

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
pub(super) struct Pin {
    pool: Rc<ReceivePool>,
    number: u32,
}

impl Pin {
    /// Returns how many pins the chunk has, this one included.
    pub(super) fn count(&self) -> usize {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::ptr::NonNull;

    use super::*;

    /// Returns a pool of two chunks of 16 bytes that are not DPDK's.
    fn pool() -> Rc<ReceivePool> {
        let base = NonNull::from(Box::leak(Box::new([0_u8; 32]))).cast();
        let chunks = Rc::new(DmaPool { base, chunk_size: 16, count: 2, free: RefCell::new(vec![1, 0]) });
        // It is never dropped, as DPDK could not free it.
        std::mem::forget(Rc::clone(&chunks));
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
