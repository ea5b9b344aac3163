//! I/O to a bdev from one SPDK thread. This module allocates nothing after a [`BackendIo`] was
//! created.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use libc::iovec;
pub use spdk_contract::io::IoStatus;
use spdk_sys as sys;

use crate::cpu::prefetch;
use crate::dma::{DMA_VEC_MAX, DmaVec, cut};
use crate::forwarded_io::{ForwardedIo, Loan};
use crate::open_bdev::SharedDescriptor;
use crate::parting;
use crate::resets::{self, Waiter};
use crate::thread::{self, Thread};

/// An I/O to a bdev: the data, the owner's context, and what SPDK needs during the I/O. It is
/// created once and reused.
///
/// By the time an I/O ends, the data of others have pushed it out of the CPU's caches. So what the end of
/// an I/O with lent data needs comes first, in one cache line if the context is small.
#[repr(C, align(64))]
pub struct BackendIo<T> {
    /// The owner's context.
    pub ctx: T,
    /// The channel, while the I/O is under way.
    channel: Option<Rc<Open>>,
    /// The data that is used in place of `data`, while the I/O is under way.
    loan: Option<Loan>,
    /// The newest request, which outlives its end: see [`BackendChannel::again`].
    request: Request,
    /// For a read, room of the exact length; for a write, the data; for a compare-and-write, the
    /// expected data and then the new data.
    pub data: DmaVec,
    wait: sys::spdk_bdev_io_wait_entry,
    /// The vectors of the two halves of a compare-and-write, which may share a chunk.
    halves: [iovec; DMA_VEC_MAX + 1],
}

/// The owner of an I/O, which is called when the I/O has ended.
pub trait BackendDone: Sized + 'static {
    /// The I/O has ended. Called on the thread that submitted it, never inside the submission.
    fn done(io: Box<BackendIo<Self>>, status: IoStatus);
}

/// Where the memory is that an I/O needs at its end.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    io: usize,
    /// What lends its data; 0: nothing.
    lender: usize,
}

impl Footprint {
    /// Has the CPU load that memory, which need not be there any more. HOT.
    #[inline]
    pub fn prefetch(self) {
        prefetch(self.io);
        if self.lender != 0 {
            prefetch(self.lender);
        }
    }
}

/// A channel to a bdev for one SPDK thread. I/O in flight keeps it open.
pub struct BackendChannel(Rc<Open>);

struct Open {
    ch: NonNull<sys::spdk_io_channel>,
    desc: Arc<SharedDescriptor>,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Request {
    op: Op,
    num_blocks: u64,
    offset_blocks: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Op {
    Read,
    Write,
    Flush,
    Unmap,
    WriteZeroes,
    CompareAndWrite,
    // Those that need something at their end come last, so that one comparison finds them.
    Reset,
    ReadLent,
    WriteLent,
}

impl<T> BackendIo<T> {
    /// Creates an I/O without data.
    pub fn new(ctx: T) -> BackendIo<T> {
        BackendIo {
            data: DmaVec::empty(),
            ctx,
            channel: None,
            request: Request { op: Op::Reset, offset_blocks: 0, num_blocks: 0 },
            // SAFETY: pointers and an optional function; all zero is valid.
            wait: unsafe { std::mem::zeroed() },
            loan: None,
            halves: [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; DMA_VEC_MAX + 1],
        }
    }

    /// Returns where the memory is that the I/O needs at its end. HOT.
    #[inline]
    pub fn footprint(&self) -> Footprint {
        Footprint { io: ptr::from_ref(self) as usize, lender: self.loan.as_ref().map_or(0, Loan::address) }
    }

    /// Returns the first block and the number of blocks of the newest request.
    pub fn blocks(&self) -> (u64, u64) {
        (self.request.offset_blocks, self.request.num_blocks)
    }

    /// Lends the data of a user's I/O to the next [`BackendChannel::read_lent`] or
    /// [`BackendChannel::write_lent`]. The user's I/O is not completed before that has ended. HOT.
    pub fn lend(&mut self, from: &mut ForwardedIo) {
        self.loan = Some(from.lend());
    }
}

impl BackendChannel {
    pub(crate) fn new(ch: NonNull<sys::spdk_io_channel>, desc: Arc<SharedDescriptor>) -> BackendChannel {
        BackendChannel(Rc::new(Open { ch, desc }))
    }

    /// Returns the block size in bytes.
    pub fn block_size(&self) -> u32 {
        self.0.desc.block_size
    }

    /// Returns whether SPDK has said that the bdev is removed. I/O may fail for that reason alone.
    pub fn is_removed(&self) -> bool {
        self.0.desc.is_removed.load(Ordering::Relaxed)
    }

    /// Returns the alignment of data in memory that the bdev requires, in bytes: a power of two. Data
    /// that is aligned to less is copied by SPDK.
    pub fn required_alignment(&self) -> usize {
        self.0.desc.required_alignment
    }

    /// Reads into `io.data`, which is `num_blocks` long. HOT.
    pub fn read<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, Op::Read, offset_blocks, num_blocks);
    }

    /// Writes `io.data`, which is `num_blocks` long. HOT.
    pub fn write<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, Op::Write, offset_blocks, num_blocks);
    }

    /// Reads into the data that was lent to `io` ([`BackendIo::lend`]), that of a read of `num_blocks`.
    /// HOT.
    pub fn read_lent<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        let is_of_read = io.loan.as_ref().is_none_or(Loan::is_of_read);
        assert!(is_of_read, "a backend would change data that its user is writing");
        self.submit(io, Op::ReadLent, offset_blocks, num_blocks);
    }

    /// Writes the data that was lent to `io`, that of a read or write of `num_blocks`. HOT.
    pub fn write_lent<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, Op::WriteLent, offset_blocks, num_blocks);
    }

    /// Flushes the volatile cache for the range. HOT.
    pub fn flush<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, Op::Flush, offset_blocks, num_blocks);
    }

    /// Discards the range. HOT.
    pub fn unmap<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, Op::Unmap, offset_blocks, num_blocks);
    }

    /// Writes zeroes to the range. HOT.
    pub fn write_zeroes<T: BackendDone>(&self, io: Box<BackendIo<T>>, offset_blocks: u64, num_blocks: u64) {
        self.submit(io, Op::WriteZeroes, offset_blocks, num_blocks);
    }

    /// Writes the second half of `io.data` if the range holds the first half. Each half is
    /// `num_blocks` long, at most the bdev's `acwu`. HOT.
    pub fn compare_and_write<T: BackendDone>(
        &self,
        io: Box<BackendIo<T>>,
        offset_blocks: u64,
        num_blocks: u64,
    ) {
        self.submit(io, Op::CompareAndWrite, offset_blocks, num_blocks);
    }

    /// Resets the bdev. All other I/O to the bdev ends, aborted or completed, before the reset
    /// does. HOT.
    pub fn reset<T: BackendDone>(&self, io: Box<BackendIo<T>>) {
        self.submit(io, Op::Reset, 0, 0);
    }

    /// Submits an I/O that has ended once more, as it was, with its own data.
    pub fn again<T: BackendDone>(&self, io: Box<BackendIo<T>>) {
        let Request { op, offset_blocks, num_blocks } = io.request;
        self.submit(io, op, offset_blocks, num_blocks);
    }

    #[inline]
    fn submit<T: BackendDone>(&self, mut io: Box<BackendIo<T>>, op: Op, offset_blocks: u64, num_blocks: u64) {
        let halves = match op {
            Op::Read | Op::Write | Op::ReadLent | Op::WriteLent => 1,
            Op::CompareAndWrite => 2,
            Op::Flush | Op::Unmap | Op::WriteZeroes | Op::Reset => 0,
        };
        // SPDK derives the length from the blocks and trusts that the vectors are as long.
        let wanted = u128::from(num_blocks) * u128::from(self.block_size()) * halves;
        let len = match op {
            Op::ReadLent | Op::WriteLent => io.loan.as_ref().map_or(0, Loan::len),
            _ => io.data.len(),
        };
        let fits = halves == 0 || (wanted > 0 && wanted == len as u128);
        assert!(op != Op::Read || !io.data.is_pinned(), "received data must not change");
        io.channel = Some(Rc::clone(&self.0));
        io.request = Request { op, offset_blocks, num_blocks };
        let io = Box::into_raw(io);
        if op == Op::Reset {
            // SAFETY: as below.
            unsafe { begin_reset(io) }
        } else if fits {
            // SAFETY: a box with its channel, on the channel's thread.
            unsafe { issue(io) }
        } else {
            crate::error!("a backend I/O of {num_blocks} blocks has data of another length");
            // SAFETY: as above.
            unsafe { fail_later(io) }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the channel was opened on this thread; no I/O is in flight, since each I/O holds
        // a reference to `self`.
        unsafe { parting::put(self.ch, &self.desc) };
    }
}

/// Resets the bdev, or waits for the reset that is under way.
///
/// # Safety
/// As [`issue`].
unsafe fn begin_reset<T: BackendDone>(io: *mut BackendIo<T>) {
    unsafe fn go<T: BackendDone>(io: *mut c_void, ended: Option<IoStatus>) {
        let io = io.cast::<BackendIo<T>>();
        // SAFETY: the box that was left with `resets`, on the thread that submitted it.
        unsafe {
            match ended {
                None => issue(io),
                Some(status) => end(io, status),
            }
        }
    }

    let Some(home) = Thread::current() else { return };
    // SAFETY: the box is valid, and its channel keeps the bdev open.
    let key = unsafe {
        let Some(channel) = (*io).channel.as_ref() else { return };
        reset_key(channel)
    };
    if resets::begin(key, Waiter::new(home, io.cast(), go::<T>)) {
        // SAFETY: the caller guarantees this; nobody else resets the bdev until `finish`.
        unsafe { issue(io) }
    }
}

/// Returns the key under which resets exclude each other. A partition passes its resets on to the
/// whole bdev.
fn reset_key(channel: &Open) -> usize {
    // SAFETY: the channel keeps the bdev open, and an open part keeps its whole bdev open.
    unsafe { sys::dst_spdk_bdev_whole(channel.desc.bdev.as_ptr()) as usize }
}

/// Hands an I/O to SPDK.
///
/// # Safety
/// `io` comes from `Box::into_raw`, has its channel, and belongs to SPDK from here on. The caller
/// runs on the channel's thread.
unsafe fn issue<T: BackendDone>(io: *mut BackendIo<T>) {
    // SAFETY: the box is valid, and nothing in it moves until the I/O is completed. The channel and
    // the descriptor are open, since the I/O holds a reference. The vectors are those of `data`
    // and `halves`, whose length `submit` has checked.
    let rc = unsafe {
        let Some(channel) = (*io).channel.as_ref() else { return };
        let Request { op, offset_blocks: offset, num_blocks: blocks } = (*io).request;
        let (desc, ch) = (channel.desc.raw.as_ptr(), channel.ch.as_ptr());
        let block_size = channel.desc.block_size;
        // Looked at only where it is used.
        let own = || {
            let entries = (*io).data.entries();
            (entries.as_ptr().cast_mut(), entries.len() as c_int)
        };
        let cb: sys::spdk_bdev_io_completion_cb = Some(completed::<T>);
        let arg = io.cast::<c_void>();
        match op {
            Op::Read => {
                let (iovs, count) = own();
                sys::spdk_bdev_readv_blocks(desc, ch, iovs, count, offset, blocks, cb, arg)
            }
            Op::Write => {
                let (iovs, count) = own();
                sys::spdk_bdev_writev_blocks(desc, ch, iovs, count, offset, blocks, cb, arg)
            }
            Op::Flush => sys::spdk_bdev_flush_blocks(desc, ch, offset, blocks, cb, arg),
            Op::Unmap => sys::spdk_bdev_unmap_blocks(desc, ch, offset, blocks, cb, arg),
            Op::WriteZeroes => sys::spdk_bdev_write_zeroes_blocks(desc, ch, offset, blocks, cb, arg),
            Op::Reset => sys::spdk_bdev_reset(desc, ch, cb, arg),
            Op::ReadLent | Op::WriteLent => {
                let Some(loan) = (*io).loan.as_ref() else { return };
                let (iovs, count) = loan.vectors();
                if op == Op::ReadLent {
                    sys::spdk_bdev_readv_blocks(desc, ch, iovs, count, offset, blocks, cb, arg)
                } else {
                    sys::spdk_bdev_writev_blocks(desc, ch, iovs, count, offset, blocks, cb, arg)
                }
            }
            Op::CompareAndWrite => {
                let half = blocks as usize * block_size as usize;
                let halves = ptr::addr_of_mut!((*io).halves).cast::<iovec>();
                let first = fill(halves, &(*io).data, 0, half);
                // A chunk that both halves share appears twice, so there is one entry more than
                // chunks, which fits.
                let second = fill(halves.add(first), &(*io).data, half, half);
                sys::spdk_bdev_comparev_and_writev_blocks(
                    desc,
                    ch,
                    halves,
                    first as c_int,
                    halves.add(first),
                    second as c_int,
                    offset,
                    blocks,
                    cb,
                    arg,
                )
            }
        }
    };
    // SAFETY: not taken by SPDK, so still ours.
    match rc {
        // The I/O may be completed and freed by now, so it must not be touched.
        0 => {}
        _ if rc == -libc::ENOMEM => unsafe { wait(io) },
        _ => unsafe { fail_later(io) },
    }
}

/// Writes the vectors of a part of `data` to `to`, and returns their number.
///
/// # Safety
/// `to` has room for them.
unsafe fn fill(to: *mut iovec, data: &DmaVec, skip: usize, len: usize) -> usize {
    let entries = data.entries().iter().map(|v| (v.iov_base.cast::<u8>(), v.iov_len));
    let mut count = 0;
    for (base, len) in cut(entries, skip, len) {
        // SAFETY: the caller guarantees this.
        unsafe { to.add(count).write(iovec { iov_base: base.cast(), iov_len: len }) };
        count += 1;
    }
    count
}

/// Waits until SPDK has a free `spdk_bdev_io`, then issues the I/O again.
///
/// # Safety
/// As [`issue`].
unsafe fn wait<T: BackendDone>(io: *mut BackendIo<T>) {
    extern "C" fn retry<T: BackendDone>(io: *mut c_void) {
        // SAFETY: the box that was left with SPDK, on the same thread.
        unsafe { issue(io.cast::<BackendIo<T>>()) }
    }

    // SAFETY: the entry is inside the box, which does not move; SPDK removes the entry from its
    // list before it calls back.
    let rc = unsafe {
        let Some(channel) = (*io).channel.as_ref() else { return };
        let (bdev, ch) = (channel.desc.bdev.as_ptr(), channel.ch.as_ptr());
        let entry = ptr::addr_of_mut!((*io).wait);
        (*entry).bdev = bdev;
        (*entry).cb_fn = Some(retry::<T>);
        (*entry).cb_arg = io.cast();
        sys::spdk_bdev_queue_io_wait(bdev, ch, entry)
    };
    if rc != 0 {
        // Something else was short, and nothing reports when it is available again, so try again
        // after the messages that are queued now.
        // SAFETY: a running thread; `retry` gets the box.
        let rc = unsafe { sys::spdk_thread_send_msg(thread::current_ptr(), Some(retry::<T>), io.cast()) };
        if rc != 0 {
            // SAFETY: not sent, so still ours.
            unsafe { finish(io, IoStatus::Nomem) }
        }
    }
}

/// Fails an I/O that SPDK refused, by a message, so that an owner that submits from `done` does not
/// recurse.
///
/// # Safety
/// As [`issue`].
unsafe fn fail_later<T: BackendDone>(io: *mut BackendIo<T>) {
    extern "C" fn fail<T: BackendDone>(io: *mut c_void) {
        // SAFETY: the box that was sent.
        unsafe { finish(io.cast::<BackendIo<T>>(), IoStatus::Failed) }
    }

    // SAFETY: a running thread; `fail` gets the box.
    let rc = unsafe { sys::spdk_thread_send_msg(thread::current_ptr(), Some(fail::<T>), io.cast()) };
    if rc != 0 {
        // SAFETY: not sent, so still ours.
        unsafe { finish(io, IoStatus::Failed) }
    }
}

extern "C" fn completed<T: BackendDone>(bdev_io: *mut sys::spdk_bdev_io, success: bool, arg: *mut c_void) {
    // SAFETY: SPDK completes an I/O once, with the argument it was given; `bdev_io` is ours to look
    // at and to free.
    unsafe {
        let status = if success { IoStatus::Success } else { failure(bdev_io) };
        sys::spdk_bdev_free_io(bdev_io);
        finish(arg.cast::<BackendIo<T>>(), status);
    }
}

/// Ends an I/O that SPDK had accepted or refused.
///
/// # Safety
/// `io` comes from `Box::into_raw`, and SPDK has it no more.
#[inline]
unsafe fn finish<T: BackendDone>(io: *mut BackendIo<T>, status: IoStatus) {
    // SAFETY: the caller guarantees this.
    unsafe {
        if (*io).request.op >= Op::Reset {
            before_end(io, status);
        }
        end(io, status);
    }
}

/// Does what an I/O needs at its end, if it is one of those that need something.
///
/// # Safety
/// As [`finish`].
unsafe fn before_end<T>(io: *mut BackendIo<T>, status: IoStatus) {
    // SAFETY: the caller guarantees this.
    let io = unsafe { &mut *io };
    match (io.request.op, &io.channel) {
        (Op::Reset, Some(channel)) => resets::end(reset_key(channel), status),
        _ => io.loan = None,
    }
}

/// Returns an I/O to its owner.
///
/// # Safety
/// As [`finish`].
#[inline]
unsafe fn end<T: BackendDone>(io: *mut BackendIo<T>, status: IoStatus) {
    // SAFETY: the caller guarantees this.
    let mut io = unsafe { Box::from_raw(io) };
    let channel = io.channel.take();
    T::done(io, status);
    // The reference is dropped after `done`, which often submits on the same channel, so that the
    // channel is not closed and reopened.
    drop(channel);
}

/// Returns the status of a failed I/O.
///
/// # Safety
/// `bdev_io` has completed and is not yet freed.
unsafe fn failure(bdev_io: *mut sys::spdk_bdev_io) -> IoStatus {
    /// NVMe base specification, status code types and codes.
    const MEDIA_ERROR: c_int = 2;
    const COMPARE_FAILURE: c_int = 0x85;
    const GENERIC: c_int = 0;
    const ABORTED_BY_REQUEST: c_int = 0x07;
    /// SCSI primary commands, sense keys.
    const MISCOMPARE: c_int = 0x0e;

    let (mut cdw0, mut sct, mut sc, mut other_sct, mut other_sc) = (0, 0, 0, 0, 0);
    let (mut status, mut key, mut asc, mut ascq) = (0, 0, 0, 0);
    // SAFETY: a completed bdev_io; the rest are out-parameters. SPDK 20.07 reports a miscompare
    // only in the two statuses of a fused command.
    unsafe {
        sys::spdk_bdev_io_get_nvme_fused_status(
            bdev_io,
            &mut cdw0,
            &mut sct,
            &mut sc,
            &mut other_sct,
            &mut other_sc,
        );
        sys::spdk_bdev_io_get_scsi_status(bdev_io, &mut status, &mut key, &mut asc, &mut ascq);
        if (sct, sc) == (MEDIA_ERROR, COMPARE_FAILURE) || key == MISCOMPARE {
            return IoStatus::Miscompare;
        }
        sys::spdk_bdev_io_get_nvme_status(bdev_io, &mut cdw0, &mut sct, &mut sc);
    }
    if (sct, sc) == (GENERIC, ABORTED_BY_REQUEST) { IoStatus::Aborted } else { IoStatus::Failed }
}
