//! What a connection receives through.
//!
//! The data of a write stays where it was received if the backend takes it from there. Such a buffer
//! is *pinned* until the backend is done with its last write, and a connection that goes on receiving
//! takes another one.

use std::rc::Rc;

use dst_session::mutation::{Mutation, is_on};
use dst_transport::Buffer;
use spdk::dma::{ReceiveChunk, ReceivePool};

/// Data in a receive buffer begins at multiples of this many bytes: behind headers of 48 bytes no more
/// can be had. A backend that requires more gets a copy.
pub const DATA_ALIGNMENT: usize = 16;

/// Bytes of a buffer that is allocated for a connection that finds none left: connections that hold
/// bytes must not keep the others from being heard. At most one a connection, and freed when it is
/// dropped.
const SPARE: usize = if cfg!(feature = "simulator") { 2 << 10 } else { 16 << 10 };

/// Memory to receive into. It returns to its pool when it is dropped and not pinned.
pub enum ReceiveBuffer {
    /// Of [`dst_transport::RECEIVE_BUFFER`] bytes. Devices can reach it.
    Pooled(ReceiveChunk),
    /// For lack of the other kind. Nothing stays in it.
    Spare(Box<[u8]>),
}

impl ReceiveBuffer {
    /// Takes a buffer of this pool, whose chunks have [`dst_transport::RECEIVE_BUFFER`] bytes.
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
