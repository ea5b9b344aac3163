//! I/O that users submit to a bdev of ours.

use std::collections::VecDeque;

pub use spdk_contract::io::IoKind;
use spdk_contract::io::IoStatus;

/// An I/O that was submitted to us and must be completed, on the same thread. Dropped without, it
/// fails.
pub struct BdevIo {
    pub(crate) id: u64,
    pub(crate) disk: u64,
    pub(crate) thread: u64,
    pub(crate) kind: IoKind,
    pub(crate) offset: u64,
    pub(crate) count: u64,
    pub(crate) data: Vec<u8>,
    /// Whom to tell of its end; gone once told.
    pub(crate) done: Option<fn(&mut BdevIo, IoStatus)>,
    pub(crate) stamp: u64,
}

impl std::fmt::Debug for BdevIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "I/O {} {:?} {}+{}", self.id, self.kind, self.offset, self.count)
    }
}

impl BdevIo {
    /// What it wants.
    pub fn kind(&self) -> IoKind {
        self.kind
    }

    /// First block.
    pub fn offset_blocks(&self) -> u64 {
        self.offset
    }

    /// Blocks; nothing of meaning for a reset.
    pub fn num_blocks(&self) -> u64 {
        self.count
    }

    /// Bytes of data: 0 but for read, write and compare-and-write.
    pub fn data_len_bytes(&self) -> usize {
        self.data.len()
    }

    /// Copies `src` to byte `offset` of the data; the bytes copied, fewer at its end.
    pub fn copy_in(&mut self, offset: usize, src: &[u8]) -> usize {
        let n = src.len().min(self.data.len().saturating_sub(offset));
        self.data[offset..offset + n].copy_from_slice(&src[..n]);
        n
    }

    /// The data from `offset` on.
    pub fn slice(&self, offset: usize) -> &[u8] {
        &self.data[offset.min(self.data.len())..]
    }

    /// The number that was put on it, 0 at first.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Puts a number on it.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = stamp;
    }

    /// Ends it.
    pub fn complete(mut self, status: IoStatus) {
        self.end(status);
    }

    fn end(&mut self, status: IoStatus) {
        if let Some(done) = self.done.take() {
            done(self, status);
        }
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }
}

impl Drop for BdevIo {
    fn drop(&mut self) {
        self.end(IoStatus::Failed);
    }
}

/// Submitted I/O in order, first in first out. Dropped, it fails what is left.
#[derive(Default)]
pub struct BdevIoQueue(VecDeque<BdevIo>);

impl BdevIoQueue {
    /// An empty queue.
    pub const fn new() -> BdevIoQueue {
        BdevIoQueue(VecDeque::new())
    }

    /// None in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one at the end.
    pub fn push_back(&mut self, io: BdevIo) {
        self.0.push_back(io);
    }

    /// The stamp of the first.
    pub fn first_stamp(&self) -> Option<u64> {
        self.0.front().map(BdevIo::stamp)
    }

    /// Takes the first.
    pub fn pop_front(&mut self) -> Option<BdevIo> {
        self.0.pop_front()
    }
}
