//! Lists of buffers for one socket call, with a fixed capacity, on the stack and without
//! allocation.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use libc::iovec;

use crate::bdev_io::BdevIo;
use crate::dma::DmaVec;

/// The maximum number of buffers of one call, well below the kernel's `UIO_MAXIOV` (1024).
pub const IOV_MAX_BATCH: usize = 256;

struct List {
    entries: [MaybeUninit<iovec>; IOV_MAX_BATCH],
    len: usize,
    bytes: usize,
}

impl List {
    const fn new() -> List {
        List { entries: [const { MaybeUninit::uninit() }; IOV_MAX_BATCH], len: 0, bytes: 0 }
    }

    /// Adds a piece. Returns false if the list is full. Empty pieces take no entry.
    #[inline]
    fn push(&mut self, base: *mut u8, len: usize) -> bool {
        if len == 0 {
            return true;
        }
        if self.len == IOV_MAX_BATCH {
            return false;
        }
        self.entries[self.len].write(iovec { iov_base: base.cast::<c_void>(), iov_len: len });
        self.len += 1;
        self.bytes += len;
        true
    }

    /// Adds pieces until the list is full. Returns how many bytes were added.
    #[inline]
    fn push_all(&mut self, pieces: impl Iterator<Item = (*mut u8, usize)>) -> usize {
        let before = self.bytes;
        for (base, len) in pieces {
            if !self.push(base, len) {
                break;
            }
        }
        self.bytes - before
    }

    fn get(&self, index: usize) -> Option<(*mut u8, usize)> {
        if index >= self.len {
            return None;
        }
        // SAFETY: entries below `len` are initialised.
        let entry = unsafe { self.entries[index].assume_init_ref() };
        Some((entry.iov_base.cast::<u8>(), entry.iov_len))
    }

    fn as_mut_ptr(&self) -> *mut iovec {
        self.entries.as_ptr().cast::<iovec>().cast_mut()
    }
}

/// Buffers to send from.
pub struct Iov<'a> {
    list: List,
    _buffers: PhantomData<&'a [u8]>,
}

/// Buffers to receive into.
pub struct IovMut<'a> {
    list: List,
    _buffers: PhantomData<&'a mut [u8]>,
}

macro_rules! common {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// Creates an empty list.
            #[inline]
            pub const fn new() -> Self {
                Self { list: List::new(), _buffers: PhantomData }
            }

            /// Returns the total size of all buffers in bytes.
            #[inline]
            pub fn len_bytes(&self) -> usize {
                self.list.bytes
            }

            /// Returns whether the list has no buffer.
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.list.len == 0
            }

            /// Returns whether there is no room for another buffer.
            #[inline]
            pub fn is_full(&self) -> bool {
                self.list.len == IOV_MAX_BATCH
            }

            /// Returns how many more buffers fit.
            #[inline]
            pub fn remaining_capacity(&self) -> usize {
                IOV_MAX_BATCH - self.list.len
            }

            /// Returns the entries and their count for a C call. All counted entries are
            /// initialised.
            #[inline]
            pub(crate) fn as_raw(&self) -> (*mut iovec, i32) {
                (self.list.as_mut_ptr(), self.list.len as i32)
            }
        }

        impl Default for $name<'_> {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

common!(Iov);
common!(IovMut);

impl<'a> Iov<'a> {
    /// The buffer of this number, if there are so many. HOT.
    #[inline]
    pub fn slice(&self, index: usize) -> Option<&'a [u8]> {
        // SAFETY: the buffer was added as memory that can be read for 'a.
        self.list.get(index).map(|(base, len)| unsafe { std::slice::from_raw_parts(base, len) })
    }

    /// Adds a buffer; false when the list is full. HOT.
    #[inline]
    pub fn push(&mut self, buf: &'a [u8]) -> bool {
        self.list.push(buf.as_ptr().cast_mut(), buf.len())
    }

    /// Adds up to `max_len` bytes of the user's data, from its byte `skip` on. Returns how many
    /// bytes were added, which are fewer if the list is full or the data ends. HOT.
    #[inline]
    pub fn push_io(&mut self, io: &'a BdevIo, skip: usize, max_len: usize) -> usize {
        self.list.push_all(io.pieces(skip, max_len))
    }

    /// Adds `len` bytes of `data`, from byte `skip` on. Returns how many bytes were added, as
    /// [`Iov::push_io`] does. HOT.
    #[inline]
    pub fn push_dma(&mut self, data: &'a DmaVec, skip: usize, len: usize) -> usize {
        self.list.push_all(data.pieces(skip, len))
    }
}

impl<'a> IovMut<'a> {
    /// The buffer of this number, if there are so many. HOT.
    #[inline]
    pub fn slice_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        // SAFETY: the buffer was added as memory that can be written for 'a. Since users' vectors
        // may name the same memory twice, the slice borrows the list, so that no second slice
        // exists at the same time.
        self.list.get(index).map(|(base, len)| unsafe { std::slice::from_raw_parts_mut(base, len) })
    }

    /// Adds a buffer; false when the list is full. HOT.
    #[inline]
    pub fn push(&mut self, buf: &'a mut [u8]) -> bool {
        self.list.push(buf.as_mut_ptr(), buf.len())
    }

    /// Adds room for up to `max_len` bytes of the user's data, from its byte `skip` on. Returns how
    /// many bytes were added, which are fewer if the list is full or the data ends. HOT.
    #[inline]
    pub fn push_io(&mut self, io: &'a mut BdevIo, skip: usize, max_len: usize) -> usize {
        self.list.push_all(io.pieces(skip, max_len))
    }

    /// Adds `len` bytes of `data`, from byte `skip` on. Returns how many bytes were added, as
    /// [`IovMut::push_io`] does. HOT.
    #[inline]
    pub fn push_dma(&mut self, data: &'a mut DmaVec, skip: usize, len: usize) -> usize {
        assert!(!data.is_pinned(), "received data must not change");
        self.list.push_all(data.pieces(skip, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_refuses_when_full() {
        let bytes = [7u8; 3];
        let mut iov = Iov::new();
        assert!(iov.push(&[]), "an empty buffer takes no room");
        for _ in 0..IOV_MAX_BATCH {
            assert!(iov.push(&bytes));
        }
        assert!(iov.is_full() && !iov.push(&bytes));
        assert_eq!(iov.len_bytes(), 3 * IOV_MAX_BATCH);
    }
}
