//! Lists of buffers for one socket call.

use crate::bdev_io::BdevIo;
use crate::dma::DmaVec;

/// The maximum number of buffers in one call.
pub const IOV_MAX_BATCH: usize = 256;

/// Buffers to send from.
#[derive(Default)]
pub struct Iov<'a>(pub(crate) Vec<&'a [u8]>);

/// Buffers to receive into.
#[derive(Default)]
pub struct IovMut<'a>(pub(crate) Vec<&'a mut [u8]>);

macro_rules! common {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// Returns an empty list.
            pub const fn new() -> Self {
                Self(Vec::new())
            }

            /// Returns the number of bytes in all buffers together.
            pub fn len_bytes(&self) -> usize {
                self.0.iter().map(|buf| buf.len()).sum()
            }

            /// Returns whether the list has no buffers.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Returns whether there is no room for another buffer.
            pub fn is_full(&self) -> bool {
                self.0.len() == IOV_MAX_BATCH
            }

            /// Returns how many more buffers fit.
            pub fn remaining_capacity(&self) -> usize {
                IOV_MAX_BATCH - self.0.len()
            }
        }
    };
}

common!(Iov);
common!(IovMut);

/// Returns the part `[skip, skip + max)` of `0..len`, cut off at its end.
fn part(len: usize, skip: usize, max: usize) -> std::ops::Range<usize> {
    let from = skip.min(len);
    from..from.saturating_add(max).min(len)
}

impl<'a> Iov<'a> {
    /// Returns the buffer with this index, if there are so many.
    pub fn slice(&self, index: usize) -> Option<&'a [u8]> {
        self.0.get(index).copied()
    }

    /// Adds a buffer. Returns false if the list is full.
    pub fn push(&mut self, buf: &'a [u8]) -> bool {
        if buf.is_empty() {
            return true;
        }
        if self.is_full() {
            return false;
        }
        self.0.push(buf);
        true
    }

    /// Adds up to `max_len` bytes of the user's data, from byte `skip` on. Returns how many were
    /// added.
    pub fn push_io(&mut self, io: &'a BdevIo, skip: usize, max_len: usize) -> usize {
        let range = part(io.data().len(), skip, max_len);
        let len = range.len();
        if self.push(&io.data()[range]) { len } else { 0 }
    }

    /// Adds `len` bytes of `data`, from byte `skip` on. Returns how many were added.
    pub fn push_dma(&mut self, data: &'a DmaVec, skip: usize, len: usize) -> usize {
        let range = part(data.len(), skip, len);
        let len = range.len();
        if self.push(&data.bytes()[range]) { len } else { 0 }
    }
}

impl<'a> IovMut<'a> {
    /// Returns the buffer with this index, if there are so many.
    pub fn slice_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.0.get_mut(index).map(|buf| &mut **buf)
    }

    /// Adds a buffer. Returns false if the list is full.
    pub fn push(&mut self, buf: &'a mut [u8]) -> bool {
        if buf.is_empty() {
            return true;
        }
        if self.is_full() {
            return false;
        }
        self.0.push(buf);
        true
    }

    /// Adds room for up to `max_len` bytes of the user's data, from byte `skip` on. Returns how
    /// many were added.
    pub fn push_io(&mut self, io: &'a mut BdevIo, skip: usize, max_len: usize) -> usize {
        let range = part(io.data().len(), skip, max_len);
        let len = range.len();
        if self.push(&mut io.data_mut()[range]) { len } else { 0 }
    }

    /// Adds `len` bytes of `data`, from byte `skip` on. Returns how many were added.
    pub fn push_dma(&mut self, data: &'a mut DmaVec, skip: usize, len: usize) -> usize {
        let range = part(data.len(), skip, len);
        let len = range.len();
        if self.push(&mut data.bytes_mut()[range]) { len } else { 0 }
    }
}
