//! Interrupt mode, with the API of `spdk/safe`. All threads of the world poll.

use crate::errno::Result;
use crate::poller::Waker;
use crate::sock::{Group, Listener, Sock};

/// What keeps something watched. Nothing is watched here.
pub struct Watch(());

impl Watch {
    /// Returns whether interrupt mode is on.
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
