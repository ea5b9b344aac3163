//! I/O that users submit to the bdevs of the code under test.

use std::collections::VecDeque;

pub use spdk_contract::io::IoKind;
use spdk_contract::io::IoStatus;

/// An I/O that must be completed on the thread on which it was submitted. If it is dropped before,
/// it fails.
pub struct BdevIo {
    pub(crate) id: u64,
    pub(crate) disk: u64,
    pub(crate) thread: u64,
    pub(crate) kind: IoKind,
    pub(crate) offset: u64,
    pub(crate) count: u64,
    pub(crate) data: Vec<u8>,
    /// The function that is told of the end; `None` once it was called.
    pub(crate) done: Option<fn(&mut BdevIo, IoStatus)>,
    pub(crate) stamp: u64,
}

impl std::fmt::Debug for BdevIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "I/O {} {:?} {}+{}", self.id, self.kind, self.offset, self.count)
    }
}

impl BdevIo {
    /// Returns the kind of I/O.
    pub fn kind(&self) -> IoKind {
        self.kind
    }

    /// Returns for how long its user has waited for it, which only traces ask for.
    pub fn age_ns(&self) -> u64 {
        0
    }

    /// Returns the first block.
    pub fn offset_blocks(&self) -> u64 {
        self.offset
    }

    /// Returns the number of blocks, which means nothing for a reset.
    pub fn num_blocks(&self) -> u64 {
        self.count
    }

    /// Returns the size of the data in bytes: 0 except for read, write and compare-and-write.
    pub fn data_len_bytes(&self) -> usize {
        self.data.len()
    }

    /// Copies `src` to byte `offset` of the data. Returns the number of bytes copied, less at the
    /// data's end.
    pub fn copy_in(&mut self, offset: usize, src: &[u8]) -> usize {
        let n = src.len().min(self.data.len().saturating_sub(offset));
        self.data[offset..offset + n].copy_from_slice(&src[..n]);
        n
    }

    /// Returns the data from byte `offset` on.
    pub fn slice(&self, offset: usize) -> &[u8] {
        &self.data[offset.min(self.data.len())..]
    }

    /// Returns the number that [`BdevIo::set_stamp`] has set, at first 0.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Sets the number that [`BdevIo::stamp`] returns.
    pub fn set_stamp(&mut self, stamp: u64) {
        self.stamp = stamp;
    }

    /// Completes the I/O.
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

/// A first-in, first-out queue of submitted I/O. If dropped, it fails the I/O that is left in it.
#[derive(Default)]
pub struct BdevIoQueue(VecDeque<BdevIo>);

impl BdevIoQueue {
    /// Returns an empty queue.
    pub const fn new() -> BdevIoQueue {
        BdevIoQueue(VecDeque::new())
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of I/Os in the queue.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds an I/O at the end.
    pub fn push_back(&mut self, io: BdevIo) {
        self.0.push_back(io);
    }

    /// Returns the stamp of the first I/O.
    pub fn first_stamp(&self) -> Option<u64> {
        self.0.front().map(BdevIo::stamp)
    }

    /// Adds an I/O before the first one that has a larger stamp.
    pub fn insert(&mut self, io: BdevIo) {
        let at = self.0.partition_point(|other| other.stamp <= io.stamp);
        self.0.insert(at, io);
    }

    /// Takes the first I/O.
    pub fn pop_front(&mut self) -> Option<BdevIo> {
        self.0.pop_front()
    }
}
