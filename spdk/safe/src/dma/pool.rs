//! Pools of DMA memory.

use std::cell::RefCell;
use std::ptr::{self, NonNull};
use std::rc::Rc;

use spdk_sys as sys;

use crate::errno::{Errno, Result};

/// The least alignment of a pool's memory: the most that any bdev requires (a page).
pub(crate) const ALIGNMENT: usize = 4096;

/// A fixed number of chunks of one size, all allocated when the pool is created. It belongs to one
/// SPDK thread.
pub struct DmaPool {
    pub(super) base: NonNull<u8>,
    pub(super) chunk_size: usize,
    pub(super) count: usize,
    /// The numbers of the free chunks. The list has room for all, so that returning chunks never
    /// allocates.
    pub(super) free: RefCell<Vec<u32>>,
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

    pub(super) fn chunk(&self, number: u32) -> *mut u8 {
        // SAFETY: numbers come from `free`, which holds those below `count` only.
        unsafe { self.base.as_ptr().add(number as usize * self.chunk_size) }
    }
}

impl Drop for DmaPool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once; every DmaVec and ReceivePool with a chunk holds an
        // Rc of the pool.
        unsafe { sys::spdk_dma_free(self.base.as_ptr().cast()) }
    }
}
