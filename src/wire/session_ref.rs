//! The nested list that names a connection's session and its place in it.

use crate::WireError;
use crate::attribute::{Reader, Writer, required};

/// A connection's session and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRef {
    /// The session's id, which the target chose in the welcome that opened the session.
    pub id: [u8; 16],
    /// The connection's queue: 0 for the session's first connection, and 1 or more for each thread
    /// of the client.
    pub queue: u16,
    /// Counts the connections of this queue, so that a late hello is recognised.
    pub epoch: u32,
}

const LIST: &str = "session";

mod attr {
    pub const ID: u16 = 1;
    pub const QUEUE: u16 = 2;
    pub const EPOCH: u16 = 3;
}

impl SessionRef {
    pub(crate) fn write(&self) -> Writer {
        let mut w = Writer::new();
        w.bytes(attr::ID, &self.id).u16(attr::QUEUE, self.queue).u32(attr::EPOCH, self.epoch);
        w
    }

    pub(crate) fn read(message: &[u8]) -> Result<SessionRef, WireError> {
        let (mut id, mut queue, mut epoch) = (None, None, None);
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::ID => id = Some(a.uuid()?),
                attr::QUEUE => queue = Some(a.u16()?),
                attr::EPOCH => epoch = Some(a.u32()?),
                _ => {}
            }
        }
        Ok(SessionRef {
            id: required(id, LIST, attr::ID)?,
            queue: required(queue, LIST, attr::QUEUE)?,
            epoch: required(epoch, LIST, attr::EPOCH)?,
        })
    }
}
