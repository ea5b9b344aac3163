//! The nested list that says which session a new one takes the place of.

use crate::WireError;
use crate::attribute::{Reader, Writer, required};

/// A session that its client can't join any more and wants to be sure to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Previous {
    /// Its id.
    pub session: [u8; 16],
    /// The target's start in which it was opened, from that session's welcome.
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
