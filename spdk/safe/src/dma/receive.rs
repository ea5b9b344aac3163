//! DMA memory to receive into, from which the received data goes to a bdev without being copied.

use std::cell::Cell;
use std::rc::Rc;

use super::pool::DmaPool;
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
        Ok(Rc::new(ReceivePool::of(DmaPool::new(chunk_size, count)?)))
    }

    /// Makes a pool whose chunks are those of `chunks`.
    pub(super) fn of(chunks: Rc<DmaPool>) -> ReceivePool {
        let users = (0..chunks.count).map(|_| Cell::default()).collect();
        ReceivePool { chunks, users, pinned: Cell::new(0) }
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

    /// Returns the address of byte `offset` of the chunk, and keeps the chunk as it is. HOT.
    pub(super) fn keep(&self, offset: usize) -> (*mut u8, Pin) {
        let users = self.pool.change(self.number, |users| users.pins += 1);
        if users.pins == 1 {
            self.pool.pinned.set(self.pool.pinned.get() + 1);
        }
        let base = self.pool.chunks.chunk(self.number).wrapping_add(offset);
        (base, Pin { pool: Rc::clone(&self.pool), number: self.number })
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
