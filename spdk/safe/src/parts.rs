//! Long reads and writes, which the disk gets in parts.
//!
//! SPDK can split I/O at a boundary itself (`split_on_optimal_io_boundary`), but then I/O of zero
//! blocks that starts at a boundary never completes, in all versions tested. So it is done here:
//! each part is a [`BdevIo`] of its own, whose context is the channel's. A part that has ended
//! becomes the next one of the same I/O, so an I/O that has begun never waits for a part.

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use spdk_contract::io::IoStatus;
use spdk_sys as sys;

use crate::bdev_io::{BdevIo, IoCtx, complete_raw, driver_ctx};
use crate::vectors::Cursor;

/// The number of parts of a channel: as many as it has transactions, by default. Each takes some
/// 100 bytes.
const PARTS: usize = 256;

/// The maximum number of parts of one I/O at a time, so that the longest one leaves some to others.
/// With parts of 256 KiB, 4 MiB are enough for any network.
const PARTS_OF_ONE: usize = 16;

/// A channel's parts that are not in use.
pub(crate) struct Parts {
    free: *mut IoCtx,
    /// Owns what the list is made of.
    _all: Box<[IoCtx]>,
}

/// Submits a part to the channel `ch`.
pub(crate) type Submit = unsafe fn(ch: *mut sys::spdk_io_channel, part: BdevIo);

/// What an I/O that is split keeps in its module's bytes.
#[repr(C)]
pub(crate) struct Split {
    parts: *mut Parts,
    ch: *mut sys::spdk_io_channel,
    submit: Submit,
    /// Counts the disk's resets, and how many there were when the I/O came. A reset ends the I/O: SPDK
    /// keeps back what it has itself, and no part begins. `Relaxed`: no other data depends on it.
    resets: *const AtomicU32,
    resets_before: u32,
    boundary: u32,
    /// The parts that have not ended, and one while the first ones are being submitted.
    outstanding: u32,
    /// The blocks that are in no part yet.
    next_block: u64,
    left: u64,
    /// How the I/O ends: like the first part that failed, after which no part begins.
    status: IoStatus,
}

/// The number of bytes that SPDK keeps in each `spdk_bdev_io` for its module: an [`IoCtx`], or a
/// [`Split`] if the disk gets the I/O in parts.
pub(crate) const DRIVER_CTX_LEN: usize = {
    let (io, split) = (size_of::<IoCtx>(), size_of::<Split>());
    if io > split { io } else { split }
};

const _: () = assert!(align_of::<Split>() <= align_of::<IoCtx>(), "the context is not aligned");

impl Parts {
    /// Creates the parts of a channel.
    pub(crate) fn new() -> Parts {
        let empty = || IoCtx {
            raw: ptr::null_mut(),
            next: ptr::null_mut(),
            part_ended: None,
            offset_blocks: 0,
            num_blocks: 0,
            data_from: 0,
            data_len: 0,
            cursor: Cursor::default(),
            stamp: 0,
            forwarding: MaybeUninit::uninit(),
        };
        let mut all: Box<[IoCtx]> = (0..PARTS).map(|_| empty()).collect();
        let mut free = ptr::null_mut();
        let first = all.as_mut_ptr();
        for index in 0..PARTS {
            // SAFETY: an element of `all`, which is moved but not reallocated.
            unsafe {
                let part = first.add(index);
                (*part).next = free;
                free = part;
            }
        }
        Parts { free, _all: all }
    }

    fn take(&mut self) -> Option<NonNull<IoCtx>> {
        let part = NonNull::new(self.free)?;
        // SAFETY: the list owns its elements, which live as long as `self`.
        self.free = unsafe { (*part.as_ptr()).next };
        Some(part)
    }

    /// # Safety
    /// `part` came from [`Parts::take`] and is not used any more.
    unsafe fn give_back(&mut self, part: NonNull<IoCtx>) {
        // SAFETY: the caller guarantees this.
        unsafe { (*part.as_ptr()).next = self.free };
        self.free = part.as_ptr();
    }
}

/// Returns the number of blocks from `block` to the next multiple of `boundary`.
#[inline]
fn to_boundary(block: u64, boundary: u32) -> u64 {
    let boundary = u64::from(boundary);
    let past = if boundary.is_power_of_two() { block & (boundary - 1) } else { block % boundary };
    boundary - past
}

/// Returns whether a read or write has to be split at multiples of `boundary` blocks, unless that is
/// 0. HOT.
#[inline]
pub(crate) fn has_parts(offset_blocks: u64, num_blocks: u64, boundary: u32) -> bool {
    boundary > 0 && num_blocks > to_boundary(offset_blocks, boundary)
}

/// Submits an I/O in parts.
///
/// # Safety
/// `raw` was just submitted on this thread to `ch`, a channel of the module with these parts, and is
/// a read or write whose vectors hold its data, and for which [`has_parts`] is true. `resets` counts the
/// resets of the disk, and lives as long as that.
pub(crate) unsafe fn split(
    raw: *mut sys::spdk_bdev_io,
    ch: *mut sys::spdk_io_channel,
    parts: *mut Parts,
    submit: Submit,
    resets: *const AtomicU32,
    boundary: u32,
) {
    // SAFETY: the caller guarantees this. The module's bytes have room for a `Split`, and belong to
    // this module until completion; `parts` lives as long as the channel, which has I/O.
    unsafe {
        if (*parts).free.is_null() {
            // Other I/O of this channel has them, so SPDK submits this one again.
            return complete_raw(raw, IoStatus::Nomem);
        }
        let bdev = &(*raw).u.bdev;
        let (next_block, left) = (bdev.offset_blocks, bdev.num_blocks);
        let split = driver_ctx::<Split>(raw);
        split.write(Split {
            parts,
            ch,
            submit,
            resets,
            resets_before: (*resets).load(Relaxed),
            boundary,
            outstanding: 1,
            next_block,
            left,
            status: IoStatus::Success,
        });
        for _ in 0..PARTS_OF_ONE {
            // Parts may have ended already.
            if (*split).left == 0 {
                break;
            }
            let Some(part) = (*parts).take() else { break };
            submit_next(raw, part, 0);
        }
        ended(raw);
    }
}

/// Submits the next part of an I/O that has blocks left. `stamp` is what the disk has set as that of
/// a part before it, so that the time of the first one is the time of all.
///
/// # Safety
/// `raw` is an I/O that is split, with blocks left; `part` is one of its channel's, not in use.
unsafe fn submit_next(raw: *mut sys::spdk_bdev_io, part: NonNull<IoCtx>, stamp: u64) {
    // SAFETY: the caller guarantees this. No reference to the split is alive when the part is
    // submitted, which may end it at once.
    unsafe {
        let split = driver_ctx::<Split>(raw);
        let Split { ch, submit, boundary, next_block, left, .. } = *split;
        let num_blocks = left.min(to_boundary(next_block, boundary));
        let block_size = (*(*raw).bdev).blocklen as usize;
        let from_block = next_block - (*raw).u.bdev.offset_blocks;
        (*split).next_block += num_blocks;
        (*split).left -= num_blocks;
        (*split).outstanding += 1;
        part.as_ptr().write(IoCtx {
            raw,
            next: ptr::null_mut(),
            part_ended: Some(part_ended),
            offset_blocks: next_block,
            num_blocks,
            data_from: from_block as usize * block_size,
            data_len: num_blocks as usize * block_size,
            cursor: Cursor::default(),
            stamp,
            forwarding: MaybeUninit::uninit(),
        });
        submit(ch, BdevIo::from_ctx(part));
    }
}

/// Takes back a part that has ended, or makes it the next one.
///
/// # Safety
/// `part` is a part of an I/O, and nobody has it any more.
unsafe fn part_ended(part: NonNull<IoCtx>, status: IoStatus) {
    // SAFETY: the caller guarantees this; an I/O that is split stays until its last part has ended.
    unsafe {
        let raw = (*part.as_ptr()).raw;
        let split = driver_ctx::<Split>(raw);
        if status != IoStatus::Success && (*split).status == IoStatus::Success {
            // SPDK would submit the whole I/O again for `Nomem`, and parts of it may be done.
            (*split).status = if status == IoStatus::Nomem { IoStatus::Failed } else { status };
            (*split).left = 0;
        }
        if (*split).left > 0 && (*(*split).resets).load(Relaxed) != (*split).resets_before {
            (*split).status = IoStatus::Aborted;
            (*split).left = 0;
        }
        if (*split).left > 0 {
            let stamp = (*part.as_ptr()).stamp;
            submit_next(raw, part, stamp);
        } else {
            (*(*split).parts).give_back(part);
        }
        ended(raw);
    }
}

/// Counts one end, and completes an I/O of which nothing is outstanding any more.
///
/// # Safety
/// `raw` is an I/O that is split.
unsafe fn ended(raw: *mut sys::spdk_bdev_io) {
    // SAFETY: the caller guarantees this.
    unsafe {
        let split = driver_ctx::<Split>(raw);
        (*split).outstanding -= 1;
        if (*split).outstanding == 0 {
            complete_raw(raw, (*split).status);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn io_is_split_where_it_crosses_a_boundary() {
        for boundary in [1, 2, 3, 8, 96] {
            for offset in 0..200 {
                for num in 0..200 {
                    let crosses = num > 0 && offset / boundary != (offset + num - 1) / boundary;
                    assert_eq!(has_parts(offset, num, boundary as u32), crosses, "{offset} {num} {boundary}");
                }
            }
        }
        assert!(!has_parts(0, u64::MAX, 0));
    }

    #[test]
    fn every_part_is_used_once() {
        let mut parts = Parts::new();
        let all: Vec<_> = std::iter::from_fn(|| parts.take()).collect();
        assert_eq!(all.len(), PARTS);
        // SAFETY: taken above.
        all.iter().for_each(|part| unsafe { parts.give_back(*part) });
        assert_eq!(parts.take(), all.last().copied());
    }

    std::thread_local! {
        static SUBMITTED: RefCell<Vec<BdevIo>> = const { RefCell::new(Vec::new()) };
        static COMPLETED: Cell<Option<sys::spdk_bdev_io_status>> = const { Cell::new(None) };
    }

    /// Unit tests are not linked with SPDK.
    #[unsafe(no_mangle)]
    extern "C" fn spdk_bdev_io_complete(_: *mut sys::spdk_bdev_io, status: sys::spdk_bdev_io_status) {
        assert_eq!(COMPLETED.replace(Some(status)), None);
    }

    unsafe fn keep(_: *mut sys::spdk_io_channel, part: BdevIo) {
        SUBMITTED.with(|submitted| submitted.borrow_mut().push(part));
    }

    /// Ends one part. Returns how many are not ended then.
    fn end_one() -> usize {
        let mut part = SUBMITTED.with(|submitted| submitted.borrow_mut().remove(0));
        part.set_stamp(5);
        part.complete(IoStatus::Success);
        SUBMITTED.with(|submitted| submitted.borrow().len())
    }

    #[test]
    fn no_part_begins_after_a_reset() {
        // SAFETY: numbers and pointers; all zero is valid.
        let mut bdev: sys::spdk_bdev = unsafe { std::mem::zeroed() };
        bdev.blocklen = 512;
        let mut memory = vec![0u64; (size_of::<sys::spdk_bdev_io>() + DRIVER_CTX_LEN).div_ceil(8)];
        let raw = memory.as_mut_ptr().cast::<sys::spdk_bdev_io>();
        let (mut parts, resets) = (Parts::new(), AtomicU32::new(7));
        // SAFETY: an I/O as SPDK would submit it, with room for the module's bytes; its data is not
        // looked at.
        unsafe {
            (*raw).bdev = &raw mut bdev;
            (*raw).type_ = sys::SPDK_BDEV_IO_TYPE_READ as u8;
            (*raw).u.bdev.num_blocks = 100;
            split(raw, ptr::null_mut(), &raw mut parts, keep, &raw const resets, 1);
        }
        assert_eq!((end_one(), end_one()), (PARTS_OF_ONE, PARTS_OF_ONE), "the next one begins");
        let stamps: Vec<_> =
            SUBMITTED.with(|submitted| submitted.borrow().iter().map(BdevIo::stamp).collect());
        assert_eq!(stamps[PARTS_OF_ONE - 2..], [5, 5], "the parts that follow have the time of the first");
        assert_eq!(stamps[0], 0, "the first ones come as any I/O");
        resets.fetch_add(1, Relaxed);
        assert_eq!((end_one(), end_one()), (PARTS_OF_ONE - 1, PARTS_OF_ONE - 2));
        while COMPLETED.get().is_none() {
            end_one();
        }
        assert_eq!(COMPLETED.get(), Some(sys::SPDK_BDEV_IO_STATUS_ABORTED));
        assert!(SUBMITTED.with(|submitted| submitted.borrow().is_empty()), "the last one ends the I/O");
    }
}
