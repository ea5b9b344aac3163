//! Connecting before 25.09: nobody is told when a socket is connected.

use super::super::implementation::SockImpl;
use crate::errno::Result;

/// Nothing.
pub struct Attempt;

impl Attempt {
    /// Returns nothing.
    pub fn none() -> Attempt {
        Attempt
    }

    /// Does nothing: what is read and written tells whether the socket is connected. HOT.
    #[inline]
    pub fn look<I: SockImpl>(&self, _socket: &I::Socket) -> Result<()> {
        Ok(())
    }

    /// Does nothing.
    pub fn cancel(&self) {}
}
