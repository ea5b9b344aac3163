//! The buffers into which connections receive.
//!
//! The data of a write stays in the receive buffer if the backend can use it there. The buffer is
//! then *pinned* until the backend has finished the last write in it, and the connection takes
//! another buffer when it receives more.

use std::rc::Rc;

use dst_session::mutation::{Mutation, is_on};
use dst_transport::Buffer;
use spdk::dma::{ReceiveChunk, ReceivePool};

/// The alignment of data in a receive buffer, in bytes: the largest that is possible behind headers
/// of 48 bytes. A backend that requires a larger alignment gets a copy.
pub const DATA_ALIGNMENT: usize = 16;

/// The size in bytes of a spare buffer, which is allocated if the pool is empty: connections that
/// hold buffers must not keep others from receiving. A connection has at most one, which is freed
/// when it is dropped.
const SPARE: usize = if cfg!(feature = "simulator") { 2 << 10 } else { 16 << 10 };

/// A receive buffer. It returns to its pool when it is dropped and not pinned.
pub enum ReceiveBuffer {
    /// A buffer of [`dst_transport::RECEIVE_BUFFER`] bytes of DMA memory.
    Pooled(ReceiveChunk),
    /// A buffer that was allocated because the pool was empty. No data stays in it.
    Spare(Box<[u8]>),
}

impl ReceiveBuffer {
    /// Returns a buffer of this pool, whose chunks have [`dst_transport::RECEIVE_BUFFER`] bytes, or
    /// a spare one if the pool is empty.
    pub fn take(pool: &Rc<ReceivePool>) -> ReceiveBuffer {
        pool.take().map_or_else(|| ReceiveBuffer::Spare(vec![0; SPARE].into()), ReceiveBuffer::Pooled)
    }
}

impl Buffer for ReceiveBuffer {
    const ALIGNMENT: usize = DATA_ALIGNMENT;

    fn room(&mut self) -> &mut [u8] {
        if let ReceiveBuffer::Pooled(chunk) = self
            && chunk.is_pinned()
            && !is_on(Mutation::ReceiveOverWrites)
        {
            *self = ReceiveBuffer::take(chunk.pool());
        }
        match self {
            ReceiveBuffer::Pooled(chunk) => chunk.room(),
            ReceiveBuffer::Spare(bytes) => bytes,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            ReceiveBuffer::Pooled(chunk) => chunk.bytes(),
            ReceiveBuffer::Spare(bytes) => bytes,
        }
    }
}
