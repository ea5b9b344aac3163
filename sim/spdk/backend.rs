//! I/O to a bdev from one SPDK thread, with the API of `spdk/safe`.

use spdk_contract::io::IoKind;
pub use spdk_contract::io::IoStatus;
use world::store::{self, Action, PendingIo, Request, Status};
use world::with;

use crate::desc::Share;
use crate::dma::DmaVec;

/// An I/O to a bdev.
pub struct BackendIo<T> {
    /// The data of the I/O.
    pub data: DmaVec,
    /// The owner's own data.
    pub ctx: T,
    /// Keeps the descriptor open while the I/O is in progress.
    share: Option<Share>,
    /// The kind and range of the latest submission.
    last: (IoKind, u64, u64),
}

/// The owner of an I/O, which is told when the I/O has ended.
pub trait BackendDone: Sized + 'static {
    /// Called when the I/O has ended, on the thread that submitted it, never from within the
    /// submission.
    fn done(io: Box<BackendIo<Self>>, status: IoStatus);
}

/// An SPDK thread's channel on a bdev. I/O in flight keeps it open.
pub struct BackendChannel {
    pub(crate) share: Share,
    pub(crate) store: u32,
    pub(crate) block_size: u32,
    pub(crate) required_alignment: usize,
    pub(crate) write: bool,
    pub(crate) thread: u64,
}

impl<T> BackendIo<T> {
    /// Creates an I/O without data.
    pub fn new(ctx: T) -> BackendIo<T> {
        BackendIo { data: DmaVec::empty(), ctx, share: None, last: (IoKind::Other, 0, 0) }
    }
}

impl<T: BackendDone> PendingIo for BackendIo<T> {
    fn data(&mut self) -> &mut [u8] {
        self.data.now()
    }

    fn done(mut self: Box<Self>, status: Status) {
        let status = io_status(status);
        let share = self.share.take();
        T::done(self, status);
        drop(share);
    }
}

impl BackendChannel {
    /// Returns the block size in bytes.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Returns the alignment of data in memory that the bdev requires, in bytes: a power of two.
    pub fn required_alignment(&self) -> usize {
        self.required_alignment
    }

    /// Returns whether the bdev has been removed.
    pub fn is_removed(&self) -> bool {
        with(|w| self.share.is_removed(w))
    }

    /// Reads into `io.data`.
    pub fn read<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, IoKind::Read, offset_blocks, num_blocks);
    }

    /// Writes `io.data`.
    pub fn write<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, IoKind::Write, offset_blocks, num_blocks);
    }

    /// Flushes the volatile cache for the range.
    pub fn flush<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, IoKind::Flush, offset_blocks, num_blocks);
    }

    /// Discards the range.
    pub fn unmap<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, IoKind::Unmap, offset_blocks, num_blocks);
    }

    /// Writes zeroes to the range.
    pub fn write_zeroes<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, IoKind::WriteZeroes, offset_blocks, num_blocks);
    }

    /// Writes the second half of `io.data` if the range holds the first half.
    pub fn compare_and_write<T: BackendDone>(
        &self,
        io: Box<BackendIo<T>>,
        offset_blocks: u64,
        num_blocks: u64,
    ) {
        self.submit(io, IoKind::CompareAndWrite, offset_blocks, num_blocks);
    }

    /// Resets the bdev. All other I/O to it ends, aborted or done, before the reset does.
    pub fn reset<T: BackendDone>(&self, io: Box<BackendIo<T>>) {
        self.submit(io, IoKind::Reset, 0, 0);
    }

    /// Submits an I/O that has ended once more, unchanged and with its data.
    pub fn again<T: BackendDone>(&self, io: Box<BackendIo<T>>) {
        let (kind, offset, count) = io.last;
        self.submit(io, kind, offset, count);
    }

    fn submit<T: BackendDone>(&self, mut io: Box<BackendIo<T>>, kind: IoKind, offset: u64, count: u64) {
        assert!(with(|w| w.current_thread()) == Some(self.thread), "a channel was used away from its thread");
        let halves = match kind {
            IoKind::Read | IoKind::Write => 1,
            IoKind::CompareAndWrite => 2,
            _ => 0,
        };
        let wanted = u128::from(count) * u128::from(self.block_size) * halves;
        let fits = halves == 0 || (wanted > 0 && wanted == io.data.len() as u128);
        assert!(fits, "a backend I/O of {count} blocks has {} bytes", io.data.len());
        // SPDK would copy such data.
        assert!(io.data.is_aligned(self.required_alignment), "the data is not where the bdev wants it");
        assert!(kind != IoKind::Read || io.data.pins() == 0, "received data must not change");
        io.share = Some(self.share.again());
        io.last = (kind, offset, count);
        let action = action(kind).expect("a channel submits what stores do");
        let request = Request { store: self.store, action, offset, count, read_only: !self.write };
        with(|w| store::submit(w, request, io));
    }
}

/// Returns the store's action for a kind of I/O; `None` if stores have none.
pub fn action(kind: IoKind) -> Option<Action> {
    match kind {
        IoKind::Read => Some(Action::Read),
        IoKind::Write => Some(Action::Write),
        IoKind::Flush => Some(Action::Flush),
        IoKind::Unmap => Some(Action::Unmap),
        IoKind::WriteZeroes => Some(Action::WriteZeroes),
        IoKind::CompareAndWrite => Some(Action::CompareAndWrite),
        IoKind::Reset => Some(Action::Reset),
        IoKind::Other => None,
    }
}

/// Returns the kind of I/O for a store's action.
pub fn io_kind(action: Action) -> IoKind {
    match action {
        Action::Read => IoKind::Read,
        Action::Write => IoKind::Write,
        Action::Flush => IoKind::Flush,
        Action::Unmap => IoKind::Unmap,
        Action::WriteZeroes => IoKind::WriteZeroes,
        Action::CompareAndWrite => IoKind::CompareAndWrite,
        Action::Reset => IoKind::Reset,
    }
}

fn io_status(status: Status) -> IoStatus {
    match status {
        Status::Success => IoStatus::Success,
        Status::Failed => IoStatus::Failed,
        Status::Miscompare => IoStatus::Miscompare,
        Status::Aborted => IoStatus::Aborted,
    }
}
