//! The memory of a mirror for what it reads and writes by itself.

use std::rc::Rc;

use dst_mirror::{Extent, SlotId, differences};
use spdk::dma::{DMA_VEC_MAX, DmaPool, DmaVec};

use crate::error::Error;

/// The size of a chunk of the memory for metadata, in bytes. A request has up to
/// [`DMA_VEC_MAX`] of them, so 1 MiB, which is twice the longest write of metadata.
const METADATA_CHUNK: usize = 64 << 10;

/// The memory of one mirror: for one of the longest requests of metadata, or more shorter ones, and for
/// the slots in which blocks are copied.
pub struct Buffers {
    metadata: Rc<DmaPool>,
    copies: Rc<DmaPool>,
    slots: Vec<DmaVec>,
}

impl Buffers {
    /// Allocates the memory.
    ///
    /// # Errors
    /// SPDK has not as much.
    pub fn new(slots: u16, slot_bytes: u32) -> Result<Buffers, Error> {
        let pool = |size: usize, count: usize| {
            DmaPool::new(size, count).map_err(|errno| Error::Resources { what: "memory for a mirror", errno })
        };
        Ok(Buffers {
            metadata: pool(METADATA_CHUNK, DMA_VEC_MAX)?,
            copies: pool(slot_bytes as usize, slots.into())?,
            slots: (0..slots).map(|_| DmaVec::empty()).collect(),
        })
    }

    /// Gives `data` memory for metadata. Returns false if there is not enough now.
    pub fn take_metadata(&self, data: &mut DmaVec, bytes: usize) -> bool {
        data.take(&self.metadata, bytes)
    }

    /// Returns whether a request of metadata can have so many bytes at all.
    pub fn holds_metadata(&self, bytes: usize) -> bool {
        bytes <= METADATA_CHUNK * DMA_VEC_MAX
    }

    /// Gives `data` the memory of a slot, for `bytes` that are to be read. Returns false if the slot is in
    /// use or smaller.
    pub fn take_slot(&mut self, slot: SlotId, data: &mut DmaVec, bytes: usize) -> bool {
        match self.slots.get_mut(usize::from(slot.0)) {
            Some(kept) => {
                kept.release();
                bytes <= self.copies.chunk_size() && data.take(&self.copies, bytes)
            }
            None => false,
        }
    }

    /// Returns the ranges in which two slots differ that hold the same range of blocks.
    pub fn differences(&self, slots: [SlotId; 2], range: Extent) -> Vec<Extent> {
        // What a slot holds is in one chunk.
        let bytes =
            slots.map(|slot| self.slots.get(usize::from(slot.0)).map_or(&[][..], |kept| kept.slice(0)));
        let block_size = bytes[0].len().div_ceil(range.count as usize).max(1);
        differences(bytes[0], bytes[1], range.start, block_size)
    }

    /// Exchanges `data` with what a slot holds: a request has it while it is under way.
    pub fn swap_slot(&mut self, slot: SlotId, data: &mut DmaVec) {
        if let Some(kept) = self.slots.get_mut(usize::from(slot.0)) {
            std::mem::swap(kept, data);
        }
    }
}
