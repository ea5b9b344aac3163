//! The pools of a group: I/O objects, memory for the data of I/O, and receive buffers.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use dst_transport::RECEIVE_BUFFER;
use spdk::backend::BackendIo;
use spdk::dma::{DmaPool, ReceiveChunk, ReceivePool};

use crate::completion::{Completions, Context, Io};
use crate::options::Options;
use crate::receive_buffer::ReceiveBuffer;
use crate::share::{Amount, Share};

/// The size of a small buffer in bytes: one block of 4 KiB. There are as many small buffers as I/O
/// objects, if [`Options::buffer_mib`] allows it.
const SMALL: usize = 4 << 10;

/// The maximum length in bytes of data in small buffers, such as the two blocks of a
/// compare-and-write.
const SMALL_MAX: usize = 2 * SMALL;

/// The size of a large buffer in bytes. Longer data takes several: 8 for 1 MiB, the upper limit of
/// [`Options::max_transfer`].
const LARGE: usize = 128 << 10;

/// The number of I/O objects of a group. Each request that is in the backend or being received
/// needs one.
pub const OBJECTS: usize = if cfg!(feature = "simulator") { 24 } else { 4096 };

/// The number of receive buffers of a group. A connection holds one only while it has bytes that it
/// cannot process yet.
const RECEIVE_BUFFERS: usize = if cfg!(feature = "simulator") { 6 } else { 32 };

/// The maximum number of receive buffers pinned by writes. The others are left to receive into.
const PINNED_MAX: usize = RECEIVE_BUFFERS / 2;

/// The number of large buffers as which a pinned receive buffer counts.
const PINNED_IN_LARGE: usize = RECEIVE_BUFFER.div_ceil(LARGE);

/// The pools. Everything except spare receive buffers is allocated by [`Pools::new`].
pub struct Pools {
    objects: RefCell<Vec<Io>>,
    small: Rc<DmaPool>,
    large: Rc<DmaPool>,
    receive: Rc<ReceivePool>,
}

impl Pools {
    /// Returns the pools of one core. The completions of their I/O objects go to `completions`.
    ///
    /// # Errors
    /// Fails if memory is short.
    pub fn new(options: &Options, completions: &Rc<Completions>) -> spdk::Result<Pools> {
        let bytes = (options.buffer_mib as usize) << 20;
        // A quarter of the memory is for small buffers, at most one for each I/O object.
        let small = (bytes / 4 / SMALL).clamp(1, OBJECTS);
        let large = ((bytes - small * SMALL) / LARGE).max(2 * options.max_transfer as usize / LARGE);
        let object = || Box::new(BackendIo::new(Context::new(Rc::clone(completions))));
        Ok(Pools {
            objects: RefCell::new((0..OBJECTS).map(|_| object()).collect()),
            small: DmaPool::new(SMALL, small)?,
            large: DmaPool::new(LARGE, large)?,
            receive: ReceivePool::new(RECEIVE_BUFFER, RECEIVE_BUFFERS)?,
        })
    }

    /// Returns an I/O object with room for `len` bytes, which counts in `share`; or `None` if the
    /// pools are short, or if the connection or its client already holds its share.
    pub fn take(&self, len: usize, share: &mut Share) -> Option<Io> {
        let need = needed(len);
        if !share.may_take(need, self.free()) {
            return None;
        }
        let mut objects = self.objects.borrow_mut();
        let mut io = objects.pop()?;
        let pool = if need.small > 0 { &self.small } else { &self.large };
        if len > 0 && !io.data.take(pool, len) {
            objects.push(io);
            return None;
        }
        share.took(need);
        Some(io)
    }

    /// Returns an I/O object whose data is this range of a receive buffer and stays there; or
    /// `None` if the pools are short, or if so much is pinned that the data is to be copied. HOT.
    pub fn pin(&self, chunk: &ReceiveChunk, data: Range<usize>, share: &mut Share) -> Option<Io> {
        let need = pinning(!chunk.is_pinned());
        if !share.may_take(need, self.free()) {
            return None;
        }
        let mut io = self.objects.borrow_mut().pop()?;
        chunk.pin(data, &mut io.data);
        share.took(need);
        Some(io)
    }

    fn free(&self) -> Amount {
        Amount {
            objects: self.objects.borrow().len(),
            small: self.small.available(),
            large: self.large.available(),
            pinned: PINNED_MAX.saturating_sub(self.receive.pinned()) * PINNED_IN_LARGE,
        }
    }

    /// Puts an I/O object and its memory back.
    pub fn put(&self, mut io: Io, share: &mut Share) {
        share.gave_back(match io.data.pins() {
            0 => needed(io.data.len()),
            pins => pinning(pins == 1),
        });
        io.data.release();
        self.objects.borrow_mut().push(io);
    }

    /// Returns a receive buffer.
    pub fn take_receive(&self) -> ReceiveBuffer {
        ReceiveBuffer::take(&self.receive)
    }
}

/// Returns the amount that an I/O with `len` bytes of data takes from the pools.
fn needed(len: usize) -> Amount {
    let (small, large) = if len <= SMALL_MAX { (len.div_ceil(SMALL), 0) } else { (0, len.div_ceil(LARGE)) };
    Amount { objects: 1, small, large, pinned: 0 }
}

/// Returns the amount that an I/O takes whose data stays in a receive buffer. `is_first` says that
/// no other data stays in this buffer.
fn pinning(is_first: bool) -> Amount {
    Amount { objects: 1, small: 0, large: 0, pinned: if is_first { PINNED_IN_LARGE } else { 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_are_small_and_more_is_large() {
        let amounts =
            [0, 1, SMALL, SMALL + 1, SMALL_MAX, SMALL_MAX + 1, LARGE, LARGE + 1, 8 * LARGE].map(needed);
        assert!(amounts.iter().all(|amount| amount.objects == 1));
        let chunks = amounts.map(|amount| (amount.small, amount.large));
        assert_eq!(chunks, [(0, 0), (1, 0), (1, 0), (2, 0), (2, 0), (0, 1), (0, 1), (0, 2), (0, 8)]);
    }
}
