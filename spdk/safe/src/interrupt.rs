//! Interrupt mode: SPDK's threads sleep until something happens, and do not poll.
//!
//! SPDK has had interrupt mode for longer, but sockets can wake a thread only since 24.09. In older
//! versions, threads of this crate that have sockets never sleep.

#[cfg_attr(not(spdk_sock_interrupts), path = "interrupt/none.rs")]
#[cfg_attr(spdk_sock_interrupts, path = "interrupt/events.rs")]
mod imp;

use crate::errno::Result;
use crate::interrupt_mode::enabled;
use crate::poller::Waker;
use crate::sock::{Group, Listener, Sock};

/// Returns true if the application is in interrupt mode: its threads sleep until something wakes
/// them, and pollers do not run meanwhile.
pub fn is_enabled() -> bool {
    enabled()
}

/// Runs a resting poller whenever a socket is readable, until dropped. It must be dropped on the
/// poller's thread, before the watched sockets. If the application polls, a watch does nothing.
pub struct Watch(Option<imp::Watch>);

impl Watch {
    /// Returns whether the application is in interrupt mode. HOT.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl Group {
    /// Runs `waker`'s poller when a socket of the group is readable.
    pub fn watch(&self, waker: &Waker) -> Result<Watch> {
        if !enabled() {
            return Ok(Watch(None));
        }
        Ok(Watch(Some(imp::Watch::group(self.clone(), waker)?)))
    }
}

impl Sock {
    /// Runs `waker`'s poller when the socket is readable. The socket must not be in a group.
    pub fn watch(&self, waker: &Waker) -> Result<Watch> {
        if !enabled() {
            return Ok(Watch(None));
        }
        Ok(Watch(Some(imp::Watch::sock(self, waker)?)))
    }
}

impl Listener {
    /// Runs `waker`'s poller when a connection waits to be accepted.
    pub fn watch(&self, waker: &Waker) -> Result<Watch> {
        self.sock().watch(waker)
    }
}
