//! The pools of a group: objects for backend I/O, memory for its data, receive buffers.

use std::cell::RefCell;
use std::rc::Rc;

use dst_transport::RECEIVE_BUFFER;
use spdk::backend::BackendIo;
use spdk::dma::DmaPool;

use crate::completion::{Completions, Context, Io};
use crate::options::Options;
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
const RECEIVE_BUFFERS: usize = if cfg!(feature = "simulator") { 3 } else { 32 };

/// Bytes of a receive buffer that is allocated for a connection that finds none left: connections
/// that hold bytes must not keep the others from being heard. At most one a connection, and freed
/// when it is put back.
const SPARE_RECEIVE_BUFFER: usize = if cfg!(feature = "simulator") { 2 << 10 } else { 16 << 10 };

/// The pools. Everything is allocated by [`Pools::new`], spare receive buffers excepted.
pub struct Pools {
    objects: RefCell<Vec<Io>>,
    small: Rc<DmaPool>,
    large: Rc<DmaPool>,
    receive: RefCell<Vec<Box<[u8]>>>,
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
            receive: RefCell::new((0..RECEIVE_BUFFERS).map(|_| vec![0; RECEIVE_BUFFER].into()).collect()),
        })
    }

    /// Returns an I/O object with room for `len` bytes, which `share` notes; none when the pools are
    /// short, or when the connection or its owner holds enough already.
    pub fn take(&self, len: usize, share: &mut Share) -> Option<Io> {
        let mut objects = self.objects.borrow_mut();
        let need = needed(len);
        let free =
            Amount { objects: objects.len(), small: self.small.available(), large: self.large.available() };
        if !share.may_take(need, free) {
            return None;
        }
        let mut io = objects.pop()?;
        let pool = if need.small > 0 { &self.small } else { &self.large };
        if len > 0 && !io.data.take(pool, len) {
            objects.push(io);
            return None;
        }
        share.took(need);
        Some(io)
    }

    /// Puts an I/O object back, and its memory.
    pub fn put(&self, mut io: Io, share: &mut Share) {
        share.gave_back(needed(io.data.len()));
        io.data.release();
        self.objects.borrow_mut().push(io);
    }

    /// Returns a receive buffer.
    pub fn take_receive(&self) -> Box<[u8]> {
        let buffer = self.receive.borrow_mut().pop();
        buffer.unwrap_or_else(|| vec![0; SPARE_RECEIVE_BUFFER].into())
    }

    /// Puts a receive buffer back.
    pub fn put_receive(&self, buffer: Box<[u8]>) {
        if buffer.len() == RECEIVE_BUFFER {
            self.receive.borrow_mut().push(buffer);
        }
    }
}

/// Returns what an I/O with `len` bytes of data takes from the pools.
fn needed(len: usize) -> Amount {
    let (small, large) = if len <= SMALL_MAX { (len.div_ceil(SMALL), 0) } else { (0, len.div_ceil(LARGE)) };
    Amount { objects: 1, small, large }
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
