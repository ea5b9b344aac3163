//! Data that is lent to a socket.

use std::slice;

/// A part of lent data.
#[derive(Debug)]
pub struct Lent {
    start: *const u8,
    len: usize,
}

// SAFETY: the data is only read, and stays as it is until its owner has it back.
unsafe impl Send for Lent {}

impl Lent {
    /// # Safety
    /// The data stays valid and unchanged for as long as this exists.
    pub(super) unsafe fn new(part: &libc::iovec) -> Lent {
        Lent { start: part.iov_base.cast(), len: part.iov_len }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as `Lent::new` demands. An empty part may have no address.
        if self.len == 0 { &[] } else { unsafe { slice::from_raw_parts(self.start, self.len) } }
    }
}
