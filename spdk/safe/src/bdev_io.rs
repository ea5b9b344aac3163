//! I/O that SPDK's users submit to a bdev of this crate's module.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use libc::iovec;
use spdk_sys as sys;

pub use spdk_contract::io::IoKind;
use spdk_contract::io::IoStatus;

use crate::clock;
use crate::vectors::{Cursor, Pieces, Vectors, bytes};

/// Converts SPDK's I/O type.
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

/// Returns how many times the data of such an I/O contains its blocks.
fn data_factor(kind: IoKind) -> u64 {
    match kind {
        IoKind::Read | IoKind::Write => 1,
        IoKind::CompareAndWrite => 2,
        _ => 0,
    }
}

/// An I/O that was submitted to the module and must be completed on the same thread. If it is
/// dropped without completion, it fails.
///
/// Its data is one range of bytes, whatever the vectors: `num_blocks` long for a read or write; for
/// a compare-and-write the expected data and then the new data. SPDK's user owns the memory and
/// does not touch it until completion.
///
/// A long I/O of SPDK's comes as several, one for each of its [`parts`](crate::parts).
pub struct BdevIo {
    ctx: NonNull<IoCtx>,
    _not_send: PhantomData<*mut ()>,
}

/// What a [`BdevIo`] knows of an I/O: inside each `spdk_bdev_io`, in the bytes for its module, or
/// inside the channel, for a part of one.
#[repr(C)]
pub(crate) struct IoCtx {
    /// SPDK's I/O, maybe a part of which this is.
    pub(crate) raw: *mut sys::spdk_bdev_io,
    /// The next I/O in a [`BdevIoQueue`], or on its way to another thread.
    pub(crate) next: *mut IoCtx,
    /// What becomes of a part that has ended; `None`: this is all of SPDK's I/O.
    pub(crate) part_ended: Option<PartEnded>,
    /// Filled when the I/O is forwarded to another thread. It is among what the end of such an I/O needs, by
    /// when the I/O has left the CPU's caches: these are neighbours.
    pub(crate) forwarding: MaybeUninit<Forwarding>,
    pub(crate) offset_blocks: u64,
    pub(crate) num_blocks: u64,
    /// The first byte in the vectors.
    pub(crate) data_from: usize,
    pub(crate) data_len: usize,
    pub(crate) cursor: Cursor,
    pub(crate) stamp: u64,
}

/// What an I/O keeps while it is forwarded.
#[derive(Clone, Copy)]
pub(crate) struct Forwarding {
    /// The `Ends` of the `Lane` on which the I/O was sent, whose channel stays while it has I/O.
    pub(crate) ends: *const c_void,
    /// The number of I/Os of other bdevs that have its data.
    pub(crate) loans: u32,
    pub(crate) status: IoStatus,
}

// SPDK puts the driver's bytes at the end of its structure and promises no alignment for them.
const _: () = assert!(
    std::mem::offset_of!(sys::spdk_bdev_io, driver_ctx) % align_of::<IoCtx>() == 0,
    "the module's context is not aligned"
);

/// Takes back a part that has ended, and which nobody has any more.
pub(crate) type PartEnded = unsafe fn(NonNull<IoCtx>, IoStatus);

/// Returns the address of the module's bytes in an I/O.
///
/// # Safety
/// `raw` is an I/O of the module.
#[inline]
pub(crate) unsafe fn driver_ctx<T>(raw: *mut sys::spdk_bdev_io) -> *mut T {
    // SAFETY: the caller guarantees this; a field's address.
    unsafe { ptr::addr_of_mut!((*raw).driver_ctx).cast() }
}

impl BdevIo {
    /// Takes over a submitted I/O. Returns `None` if its vectors are shorter than its blocks; the
    /// I/O has then been failed.
    ///
    /// # Safety
    /// `raw` was just submitted on this thread to a bdev of the module, whose context is a
    /// [`DriverCtx`].
    #[inline]
    pub(crate) unsafe fn from_submitted(raw: *mut sys::spdk_bdev_io) -> Option<BdevIo> {
        // SAFETY: the context has room for an `IoCtx` (`get_ctx_size`), is aligned (asserted
        // above), and belongs to this module until completion. SPDK fills this member of the union
        // for every kind but reset, where it is numbers too. The bdev lives while it has I/O.
        let (io, len) = unsafe {
            let (offset_blocks, num_blocks) = ((*raw).u.bdev.offset_blocks, (*raw).u.bdev.num_blocks);
            let ctx = driver_ctx::<IoCtx>(raw);
            ctx.write(IoCtx {
                raw,
                next: ptr::null_mut(),
                part_ended: None,
                forwarding: MaybeUninit::uninit(),
                offset_blocks,
                num_blocks,
                data_from: 0,
                data_len: 0,
                cursor: Cursor::default(),
                stamp: 0,
            });
            let io = BdevIo::from_ctx(NonNull::new_unchecked(ctx));
            let block_size = u64::from((*(*raw).bdev).blocklen);
            let len = num_blocks.checked_mul(block_size * data_factor(io.kind()));
            (io, len)
        };
        let data_len = usize::try_from(len?).ok()?;
        // SAFETY: filled above.
        unsafe { (*io.ctx()).data_len = data_len };
        if data_len > 0 && !io.vectors_hold_data() {
            crate::error!("refused an I/O whose vectors are shorter than its {data_len} bytes");
            return None;
        }
        Some(io)
    }

    /// Takes over an I/O of the module or a part of one.
    ///
    /// # Safety
    /// The context is filled, and nobody else has it.
    #[inline]
    pub(crate) unsafe fn from_ctx(ctx: NonNull<IoCtx>) -> BdevIo {
        BdevIo { ctx, _not_send: PhantomData }
    }

    #[inline]
    fn ctx(&self) -> *mut IoCtx {
        self.ctx.as_ptr()
    }

    /// Returns SPDK's I/O.
    #[inline]
    fn raw(&self) -> *mut sys::spdk_bdev_io {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).raw }
    }

    /// Returns the kind of I/O. HOT.
    #[inline]
    pub fn kind(&self) -> IoKind {
        // SAFETY: a valid bdev_io, ours until completion.
        kind_of(unsafe { (*self.raw()).type_ }.into())
    }

    /// Returns for how long SPDK's user has waited for it, in ns.
    pub fn age_ns(&self) -> u64 {
        // SAFETY: a valid bdev_io, ours until completion.
        let submitted = unsafe { (*self.raw()).internal.submit_tsc };
        let ticks = u128::from(clock::ticks().saturating_sub(submitted));
        (ticks * 1_000_000_000 / u128::from(clock::ticks_hz().max(1))) as u64
    }

    /// Returns the first block. HOT.
    #[inline]
    pub fn offset_blocks(&self) -> u64 {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).offset_blocks }
    }

    /// Returns the number of blocks, which is meaningless for a reset. HOT.
    #[inline]
    pub fn num_blocks(&self) -> u64 {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).num_blocks }
    }

    /// Returns the size of the data in bytes: 0 except for read, write and compare-and-write. HOT.
    #[inline]
    pub fn data_len_bytes(&self) -> usize {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).data_len }
    }

    /// Returns a number that the owner has set, such as the time of submission; 0 at first, or what
    /// the owner has set for an earlier part of the same long I/O. HOT.
    #[inline]
    pub fn stamp(&self) -> u64 {
        // SAFETY: filled when the I/O came.
        unsafe { (*self.ctx()).stamp }
    }

    /// Sets the number that [`BdevIo::stamp`] returns. HOT.
    #[inline]
    pub fn set_stamp(&mut self, stamp: u64) {
        // SAFETY: filled when the I/O came, and ours until completion.
        unsafe { (*self.ctx()).stamp = stamp };
    }

    /// Returns the vectors of a read or write, or of both halves of a compare-and-write.
    #[inline]
    fn vectors(&self) -> Vectors<'_> {
        let kind = self.kind();
        if data_factor(kind) == 0 {
            return Vectors { first: &[], second: &[] };
        }
        // SAFETY: for these kinds SPDK has filled in the vectors, valid until completion.
        unsafe {
            let bdev = &(*self.raw()).u.bdev;
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
            // The first vector must match exactly, because the second half of the data begins where
            // it ends.
            bytes(first) == len / 2 && bytes(second) >= len / 2
        } else {
            bytes(first) >= len
        }
    }

    /// Returns the contiguous pieces of the data's `[skip, skip + max)`, cut at its end. Continuing
    /// from where the previous call began costs no search through the vectors.
    #[inline]
    pub(crate) fn pieces(&self, skip: usize, max: usize) -> Pieces<'_> {
        let left = self.data_len_bytes().saturating_sub(skip).min(max);
        // SAFETY: filled when the I/O came; there is no other reference to it during this call.
        let (cursor, from) = unsafe { (&mut (*self.ctx()).cursor, (*self.ctx()).data_from) };
        self.vectors().pieces(cursor, from + skip, left)
    }

    /// Copies `src` to byte `offset` of the data. Returns how many bytes were copied, which are
    /// fewer at its end. HOT.
    pub fn copy_in(&mut self, offset: usize, src: &[u8]) -> usize {
        let mut done = 0;
        for (base, len) in self.pieces(offset, src.len()) {
            // SAFETY: a piece of the user's buffer, ours to write to until completion; `src` is
            // other memory.
            unsafe { ptr::copy_nonoverlapping(src[done..done + len].as_ptr(), base, len) };
            done += len;
        }
        done
    }

    /// Returns the longest slice of contiguous bytes from `offset` on, empty at the end. Used for
    /// digests. HOT.
    pub fn slice(&self, offset: usize) -> &[u8] {
        match self.pieces(offset, usize::MAX).next() {
            // SAFETY: a piece of the user's buffer, which stays valid and is not touched until
            // completion.
            Some((base, len)) => unsafe { std::slice::from_raw_parts(base, len) },
            None => &[],
        }
    }

    /// Completes the I/O. `Nomem` makes SPDK submit it again after another I/O of this thread's
    /// channel has ended, so it must not be used if none is in flight, nor for a reset. HOT.
    #[inline]
    pub fn complete(self, status: IoStatus) {
        let ctx = self.into_ctx();
        finish(ctx, status);
    }

    /// Returns SPDK's I/O, which is to be completed otherwise.
    pub(crate) fn into_raw(self) -> *mut sys::spdk_bdev_io {
        let raw = self.raw();
        std::mem::forget(self);
        raw
    }

    pub(crate) fn into_ctx(self) -> NonNull<IoCtx> {
        let ctx = self.ctx;
        std::mem::forget(self);
        ctx
    }
}

impl Drop for BdevIo {
    fn drop(&mut self) {
        finish(self.ctx, IoStatus::Failed);
    }
}

/// Completes an I/O on the thread on which it was submitted.
#[inline]
pub(crate) fn finish(ctx: NonNull<IoCtx>, status: IoStatus) {
    // SAFETY: the `BdevIo` was the only one for this I/O, and is gone; it never left the thread.
    unsafe {
        let IoCtx { raw, part_ended, .. } = *ctx.as_ptr();
        match part_ended {
            None => complete_raw(raw, status),
            Some(part_ended) => part_ended(ctx, status),
        }
    }
}

/// # Safety
/// `raw` is an I/O of the module that was submitted on this thread and is not completed.
pub(crate) unsafe fn complete_raw(raw: *mut sys::spdk_bdev_io, status: IoStatus) {
    let status = match status {
        IoStatus::Success => sys::SPDK_BDEV_IO_STATUS_SUCCESS,
        IoStatus::Failed => sys::SPDK_BDEV_IO_STATUS_FAILED,
        IoStatus::Nomem => sys::SPDK_BDEV_IO_STATUS_NOMEM,
        IoStatus::Miscompare => sys::SPDK_BDEV_IO_STATUS_MISCOMPARE,
        IoStatus::Aborted => sys::SPDK_BDEV_IO_STATUS_ABORTED,
    };
    // SAFETY: the caller guarantees this.
    unsafe { sys::spdk_bdev_io_complete(raw, status) };
}

/// # Safety
/// `iovs` is null, or points to `count` entries that are valid for `'a`.
#[inline]
pub(crate) unsafe fn vector<'a>(iovs: *mut iovec, count: i32) -> &'a [iovec] {
    match usize::try_from(count) {
        // SAFETY: the caller guarantees this.
        Ok(count) if !iovs.is_null() => unsafe { std::slice::from_raw_parts(iovs, count) },
        _ => &[],
    }
}

/// A first-in, first-out queue of submitted I/O. It is an intrusive list, so it takes no memory. If
/// it is dropped, the I/O left in it fails.
pub struct BdevIoQueue {
    head: *mut IoCtx,
    tail: *mut IoCtx,
    len: usize,
}

impl BdevIoQueue {
    /// Creates an empty queue.
    pub const fn new() -> BdevIoQueue {
        BdevIoQueue { head: ptr::null_mut(), tail: ptr::null_mut(), len: 0 }
    }

    /// Returns whether the queue is empty. HOT.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the length of the queue. HOT.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the [`BdevIo::stamp`] of the first I/O. HOT.
    #[inline]
    pub fn first_stamp(&self) -> Option<u64> {
        if self.head.is_null() {
            return None;
        }
        // SAFETY: the queue owns the I/O, whose context was filled when it came.
        Some(unsafe { (*self.head).stamp })
    }

    /// Adds an I/O at the end. HOT.
    #[inline]
    pub fn push_back(&mut self, io: BdevIo) {
        let ctx = io.into_ctx().as_ptr();
        // SAFETY: the queue owns the I/Os `ctx` and `tail`.
        unsafe {
            (*ctx).next = ptr::null_mut();
            if self.tail.is_null() {
                self.head = ctx;
            } else {
                (*self.tail).next = ctx;
            }
        }
        self.tail = ctx;
        self.len += 1;
    }

    /// Adds an I/O before the first one that has a larger [`BdevIo::stamp`].
    pub fn insert(&mut self, io: BdevIo) {
        let stamp = io.stamp();
        let (mut before, mut next) = (ptr::null_mut::<IoCtx>(), self.head);
        // SAFETY: the queue owns the I/Os in it, whose contexts were filled when they came.
        while !next.is_null() && unsafe { (*next).stamp } <= stamp {
            (before, next) = (next, unsafe { (*next).next });
        }
        if next.is_null() {
            return self.push_back(io);
        }
        let ctx = io.into_ctx().as_ptr();
        // SAFETY: the queue owns the I/Os `ctx` and `before`.
        unsafe {
            (*ctx).next = next;
            if before.is_null() {
                self.head = ctx;
            } else {
                (*before).next = ctx;
            }
        }
        self.len += 1;
    }

    /// Removes and returns the first I/O. HOT.
    #[inline]
    pub fn pop_front(&mut self) -> Option<BdevIo> {
        let ctx = NonNull::new(self.head)?;
        // SAFETY: the queue owns the I/O.
        self.head = unsafe { (*ctx.as_ptr()).next };
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        self.len -= 1;
        Some(BdevIo { ctx, _not_send: PhantomData })
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
