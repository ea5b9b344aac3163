//! I/O that SPDK's users submit to a bdev of ours.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use libc::iovec;
use spdk_sys as sys;

pub use spdk_contract::io::IoKind;
use spdk_contract::io::IoStatus;

use crate::vectors::{Cursor, Pieces, Vectors, bytes};

/// Returns what an I/O of SPDK's type wants.
pub(crate) fn kind_of(raw: sys::spdk_bdev_io_type) -> IoKind {
    match raw {
        sys::SPDK_BDEV_IO_TYPE_READ => IoKind::Read,
        sys::SPDK_BDEV_IO_TYPE_WRITE => IoKind::Write,
        sys::SPDK_BDEV_IO_TYPE_FLUSH => IoKind::Flush,
        sys::SPDK_BDEV_IO_TYPE_UNMAP => IoKind::Unmap,
        sys::SPDK_BDEV_IO_TYPE_WRITE_ZEROES => IoKind::WriteZeroes,
        sys::SPDK_BDEV_IO_TYPE_COMPARE_AND_WRITE => IoKind::CompareAndWrite,
        sys::SPDK_BDEV_IO_TYPE_RESET => IoKind::Reset,
        _ => IoKind::Other,
    }
}

/// Returns how often the I/O's blocks are there as data.
fn data_factor(kind: IoKind) -> u64 {
    match kind {
        IoKind::Read | IoKind::Write => 1,
        IoKind::CompareAndWrite => 2,
        _ => 0,
    }
}

/// An I/O that was submitted to us and must be completed, on the same thread. Dropped without, it fails.
///
/// Its data is one range of bytes, whatever the vectors: `num_blocks` long for read and write; for
/// compare-and-write what to compare, then what to write. SPDK's user owns the memory and leaves it alone
/// until completion.
pub struct BdevIo {
    raw: NonNull<sys::spdk_bdev_io>,
    _not_send: PhantomData<*mut ()>,
}

/// Ours inside each `spdk_bdev_io`: where we are in the vectors, the next in a [`BdevIoQueue`], the stamp.
#[repr(C)]
pub(crate) struct DriverCtx {
    next: *mut sys::spdk_bdev_io,
    data_len: usize,
    cursor: Cursor,
    stamp: u64,
}

// SPDK puts the driver's bytes at the end of its structure and promises no alignment for them.
const _: () = assert!(
    std::mem::offset_of!(sys::spdk_bdev_io, driver_ctx) % align_of::<DriverCtx>() == 0,
    "the driver's context is not aligned"
);

impl BdevIo {
    /// Takes over an I/O; `None` when its vectors are shorter than its blocks, and it has been failed.
    ///
    /// # Safety
    /// `raw` was just submitted to a bdev of our module, whose context is a [`DriverCtx`], on this thread.
    #[inline]
    pub(crate) unsafe fn from_submitted(raw: *mut sys::spdk_bdev_io) -> Option<BdevIo> {
        // SAFETY: SPDK submits no null pointers.
        let raw = unsafe { NonNull::new_unchecked(raw) };
        let io = BdevIo { raw, _not_send: PhantomData };
        // SAFETY: the context has room for ours (`get_ctx_size`), aligned (asserted above), and is ours until
        // completion. The bdev lives while it has I/O.
        let data_len = unsafe {
            let block_size = u64::from((*(*raw.as_ptr()).bdev).blocklen);
            let len = io.num_blocks().checked_mul(block_size * data_factor(io.kind()))?;
            let data_len = usize::try_from(len).ok()?;
            io.ctx().write(DriverCtx {
                next: ptr::null_mut(),
                data_len,
                cursor: Cursor::default(),
                stamp: 0,
            });
            data_len
        };
        if data_len > 0 && !io.vectors_hold_data() {
            crate::error!("refused an I/O whose vectors are shorter than its {data_len} bytes");
            return None;
        }
        Some(io)
    }

    #[inline]
    fn ctx(&self) -> *mut DriverCtx {
        // SAFETY: a field's address, in a valid bdev_io.
        unsafe { ptr::addr_of_mut!((*self.raw.as_ptr()).driver_ctx).cast() }
    }

    /// What it wants. HOT.
    #[inline]
    pub fn kind(&self) -> IoKind {
        // SAFETY: a valid bdev_io, ours until completion.
        kind_of(unsafe { (*self.raw.as_ptr()).type_ }.into())
    }

    /// First block. HOT.
    #[inline]
    pub fn offset_blocks(&self) -> u64 {
        // SAFETY: a valid bdev_io; SPDK fills this member of the union for every kind but reset, where it is
        // a number too.
        unsafe { (*self.raw.as_ptr()).u.bdev.offset_blocks }
    }

    /// Blocks; nothing of meaning for a reset. HOT.
    #[inline]
    pub fn num_blocks(&self) -> u64 {
        // SAFETY: as for `offset_blocks`.
        unsafe { (*self.raw.as_ptr()).u.bdev.num_blocks }
    }

    /// Bytes of data: 0 but for read, write and compare-and-write. HOT.
    #[inline]
    pub fn data_len_bytes(&self) -> usize {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).data_len }
    }

    /// A number of its owner's, as the time of its submission; 0 at first. HOT.
    #[inline]
    pub fn stamp(&self) -> u64 {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).stamp }
    }

    /// Sets it. HOT.
    #[inline]
    pub fn set_stamp(&mut self, stamp: u64) {
        // SAFETY: filled when the I/O came, and ours until completion.
        unsafe { (*self.ctx()).stamp = stamp };
    }

    /// The vectors of a read or write, or of both halves of a compare-and-write.
    #[inline]
    fn vectors(&self) -> Vectors<'_> {
        let kind = self.kind();
        if data_factor(kind) == 0 {
            return Vectors { first: &[], second: &[] };
        }
        // SAFETY: for these kinds SPDK has filled in the vectors, valid until completion.
        unsafe {
            let bdev = &(*self.raw.as_ptr()).u.bdev;
            let first = vector(bdev.iovs, bdev.iovcnt);
            let fused = kind == IoKind::CompareAndWrite;
            let second = if fused { vector(bdev.fused_iovs, bdev.fused_iovcnt) } else { &[] };
            Vectors { first, second }
        }
    }

    fn vectors_hold_data(&self) -> bool {
        let Vectors { first, second } = self.vectors();
        let len = self.data_len_bytes();
        if self.kind() == IoKind::CompareAndWrite {
            // Exact, because the second half of the data begins where the first vector ends.
            bytes(first) == len / 2 && bytes(second) >= len / 2
        } else {
            bytes(first) >= len
        }
    }

    /// The contiguous pieces of the data's `[skip, skip + max)`, cut at its end. Going on from where the last
    /// call began costs no search through the vectors.
    #[inline]
    pub(crate) fn pieces(&self, skip: usize, max: usize) -> Pieces<'_> {
        let left = self.data_len_bytes().saturating_sub(skip).min(max);
        // SAFETY: filled when the I/O came; nobody else has a reference to it during this call.
        let cursor = unsafe { &mut (*self.ctx()).cursor };
        self.vectors().pieces(cursor, skip, left)
    }

    /// Copies `src` to byte `offset` of the data; the bytes copied, fewer at its end. HOT.
    pub fn copy_in(&mut self, offset: usize, src: &[u8]) -> usize {
        let mut done = 0;
        for (base, len) in self.pieces(offset, src.len()) {
            // SAFETY: a piece of the user's buffer, ours to write to until completion; `src` is other memory.
            unsafe { ptr::copy_nonoverlapping(src[done..done + len].as_ptr(), base, len) };
            done += len;
        }
        done
    }

    /// The longest slice of contiguous bytes from `offset` on, empty at the end: for digests. HOT.
    pub fn slice(&self, offset: usize) -> &[u8] {
        match self.pieces(offset, usize::MAX).next() {
            // SAFETY: a piece of the user's buffer, which stays and is left alone until completion.
            Some((base, len)) => unsafe { std::slice::from_raw_parts(base, len) },
            None => &[],
        }
    }

    /// Ends it. `Nomem` makes SPDK submit it again after another I/O of this thread's channel has ended: not
    /// to be used when none is in flight, nor for a reset. HOT.
    #[inline]
    pub fn complete(self, status: IoStatus) {
        let raw = self.raw;
        std::mem::forget(self);
        finish(raw, status);
    }

    fn into_raw(self) -> NonNull<sys::spdk_bdev_io> {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }
}

impl Drop for BdevIo {
    fn drop(&mut self) {
        finish(self.raw, IoStatus::Failed);
    }
}

fn finish(raw: NonNull<sys::spdk_bdev_io>, status: IoStatus) {
    let status = match status {
        IoStatus::Success => sys::SPDK_BDEV_IO_STATUS_SUCCESS,
        IoStatus::Failed => sys::SPDK_BDEV_IO_STATUS_FAILED,
        IoStatus::Nomem => sys::SPDK_BDEV_IO_STATUS_NOMEM,
        IoStatus::Miscompare => sys::SPDK_BDEV_IO_STATUS_MISCOMPARE,
        IoStatus::Aborted => sys::SPDK_BDEV_IO_STATUS_ABORTED,
    };
    // SAFETY: the token was the only one for this I/O, and is gone; it never left the thread.
    unsafe { sys::spdk_bdev_io_complete(raw.as_ptr(), status) };
}

/// # Safety
/// Null, or `count` entries that are valid for as long as the caller says.
#[inline]
unsafe fn vector<'a>(iovs: *mut iovec, count: i32) -> &'a [iovec] {
    match usize::try_from(count) {
        // SAFETY: the caller's.
        Ok(count) if !iovs.is_null() => unsafe { std::slice::from_raw_parts(iovs, count) },
        _ => &[],
    }
}

/// Submitted I/O in order, first in first out. Costs no memory: each knows the next. Dropped, it fails what
/// is left.
pub struct BdevIoQueue {
    head: *mut sys::spdk_bdev_io,
    tail: *mut sys::spdk_bdev_io,
    len: usize,
}

impl BdevIoQueue {
    /// An empty queue.
    pub const fn new() -> BdevIoQueue {
        BdevIoQueue { head: ptr::null_mut(), tail: ptr::null_mut(), len: 0 }
    }

    /// None in it. HOT.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many. HOT.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first one's [`BdevIo::stamp`]. HOT.
    #[inline]
    pub fn first_stamp(&self) -> Option<u64> {
        if self.head.is_null() {
            return None;
        }
        // SAFETY: the queue has its token, and the context was filled when the I/O came.
        Some(unsafe { (*ptr::addr_of!((*self.head).driver_ctx).cast::<DriverCtx>()).stamp })
    }

    /// Adds one at the end. HOT.
    #[inline]
    pub fn push_back(&mut self, io: BdevIo) {
        let raw = io.into_raw().as_ptr();
        // SAFETY: `raw` and `tail` are I/Os whose tokens this queue has taken.
        unsafe {
            *next(raw) = ptr::null_mut();
            if self.tail.is_null() {
                self.head = raw;
            } else {
                *next(self.tail) = raw;
            }
        }
        self.tail = raw;
        self.len += 1;
    }

    /// Takes the first. HOT.
    #[inline]
    pub fn pop_front(&mut self) -> Option<BdevIo> {
        let raw = NonNull::new(self.head)?;
        // SAFETY: the queue has its token.
        self.head = unsafe { *next(raw.as_ptr()) };
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        self.len -= 1;
        Some(BdevIo { raw, _not_send: PhantomData })
    }
}

impl Default for BdevIoQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for BdevIoQueue {
    fn drop(&mut self) {
        while self.pop_front().is_some() {}
    }
}

/// # Safety
/// `raw` is an I/O of ours that is not completed.
#[inline]
unsafe fn next(raw: *mut sys::spdk_bdev_io) -> *mut *mut sys::spdk_bdev_io {
    // SAFETY: the caller's; addresses of fields.
    unsafe {
        let ctx = ptr::addr_of_mut!((*raw).driver_ctx).cast::<DriverCtx>();
        ptr::addr_of_mut!((*ctx).next)
    }
}
