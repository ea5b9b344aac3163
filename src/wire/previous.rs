//! The nested list that names the session that a new one replaces.

use crate::WireError;
use crate::attribute::{Reader, Writer, required};

/// A session that its client can no longer join, and that must have ended before the client sends
/// requests in a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// The session's id.
    pub session: [u8; 16],
    /// The target's instance from the welcome that opened the session.
    pub instance: [u8; 16],
}

const LIST: &str = "previous session";

mod attr {
    pub const SESSION: u16 = 1;
    pub const INSTANCE: u16 = 2;
}

impl Previous {
    pub(crate) fn write(&self) -> Writer {
        let mut w = Writer::new();
        w.bytes(attr::SESSION, &self.session).bytes(attr::INSTANCE, &self.instance);
        w
    }

    pub(crate) fn read(message: &[u8]) -> Result<Previous, WireError> {
        let (mut session, mut instance) = (None, None);
        let mut reader = Reader::new(LIST, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::SESSION => session = Some(a.uuid()?),
                attr::INSTANCE => instance = Some(a.uuid()?),
                _ => {}
            }
        }
        Ok(Previous {
            session: required(session, LIST, attr::SESSION)?,
            instance: required(instance, LIST, attr::INSTANCE)?,
        })
    }
}
