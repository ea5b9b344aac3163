//! The pools of a group: objects for backend I/O, memory for its data, receive buffers.

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

/// Bytes of a small buffer: a block of 4 KiB. There are as many of them as I/O objects, if
/// [`Options::buffer_mib`] allows it.
const SMALL: usize = 4 << 10;

/// Data up to this many bytes is in small buffers: the two blocks of a compare-and-write, for
/// instance.
const SMALL_MAX: usize = 2 * SMALL;

/// Bytes of a large buffer, of which longer data has several: 8 for the upper limit of
/// [`Options::max_transfer`], 1 MiB.
const LARGE: usize = 128 << 10;

/// I/O objects of a group. One is needed for each request that is in the backend or being received.
pub const OBJECTS: usize = if cfg!(feature = "simulator") { 24 } else { 4096 };

/// Receive buffers of a group. A connection holds one only while it has bytes that it cannot
/// process yet.
const RECEIVE_BUFFERS: usize = if cfg!(feature = "simulator") { 6 } else { 32 };

/// Receive buffers that may be pinned by writes. The others are left to receive into.
const PINNED_MAX: usize = RECEIVE_BUFFERS / 2;

/// What a pinned receive buffer counts as, in large buffers.
const PINNED_IN_LARGE: usize = RECEIVE_BUFFER.div_ceil(LARGE);

/// The pools. Everything is allocated by [`Pools::new`], spare receive buffers excepted.
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
    /// Not enough memory.
    pub fn new(options: &Options, completions: &Rc<Completions>) -> spdk::Result<Pools> {
        let bytes = (options.buffer_mib as usize) << 20;
        // A quarter for small data: as many buffers as 4 KiB requests can be under way.
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

    /// Returns an I/O object with room for `len` bytes, which `share` notes; none when the pools are
    /// short, or when the connection or its client holds enough already.
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

    /// Returns an I/O object whose data is this part of what was received, and stays there; none when
    /// the pools are short, or when so much is pinned that the data is to be copied. HOT.
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

    /// Puts an I/O object back, and its memory.
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

/// Returns what an I/O with `len` bytes of data takes from the pools.
fn needed(len: usize) -> Amount {
    let (small, large) = if len <= SMALL_MAX { (len.div_ceil(SMALL), 0) } else { (0, len.div_ceil(LARGE)) };
    Amount { objects: 1, small, large, pinned: 0 }
}

/// Returns what an I/O takes whose data stays in a receive buffer. `is_first`: nothing else stays there.
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
