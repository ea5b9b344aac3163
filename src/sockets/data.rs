//! Data to be sent: copied, or the user's own.

use dst_tcp::Payload;

use crate::buffers::Buffer;

/// Data that waits to be sent and acknowledged.
#[derive(Debug)]
pub enum Data<L> {
    /// The data was copied.
    Copied(Buffer),
    /// The user has lent the data until it is acknowledged, or the connection ends.
    Lent(L),
}

impl<L: AsRef<[u8]>> Payload for Data<L> {
    fn size(&self) -> usize {
        self.as_ref().len()
    }
}

impl<L: AsRef<[u8]>> AsRef<[u8]> for Data<L> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Data::Copied(buffer) => buffer.as_ref(),
            Data::Lent(lent) => lent.as_ref(),
        }
    }
}

/// The lent data of users that lend none.
#[derive(Debug)]
pub enum NothingLent {}

impl AsRef<[u8]> for NothingLent {
    fn as_ref(&self) -> &[u8] {
        match *self {}
    }
}
