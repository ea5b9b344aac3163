//! Interrupt mode, as `spdk/safe` has it: here everybody polls.

use crate::errno::Result;
use crate::poller::Waker;
use crate::sock::{Group, Listener, Sock};

/// Nothing is watched.
pub struct Watch(());

impl Watch {
    /// Whether there is interrupt mode at all.
    pub fn is_on(&self) -> bool {
        false
    }
}

impl Group {
    /// Does nothing.
    pub fn watch(&self, _: &Waker) -> Result<Watch> {
        Ok(Watch(()))
    }
}

impl Sock {
    /// Does nothing.
    pub fn watch(&self, _: &Waker) -> Result<Watch> {
        Ok(Watch(()))
    }
}

impl Listener {
    /// Does nothing.
    pub fn watch(&self, _: &Waker) -> Result<Watch> {
        Ok(Watch(()))
    }
}
