//! Interrupt mode: SPDK's threads sleep until something happens, where they otherwise poll.
//!
//! SPDK has had it for longer, but sockets that wake a thread only since 24.09. Without them a thread that has
//! sockets to look at can't sleep, and in older versions ours do not.

#[cfg_attr(not(spdk_sock_interrupts), path = "interrupt/none.rs")]
#[cfg_attr(spdk_sock_interrupts, path = "interrupt/events.rs")]
mod imp;

use crate::errno::Result;
use crate::interrupt_mode::enabled;
use crate::poller::Waker;
use crate::sock::{Group, Listener, Sock};

/// Runs a poller that rests when a socket is readable, until dropped. On the poller's thread, and not after
/// what is watched was dropped. Nothing at all where the application polls.
pub struct Watch(Option<imp::Watch>);

impl Watch {
    /// Whether there is interrupt mode at all. HOT.
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
    /// Runs `waker`'s poller when the socket is readable. It must be in no group.
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
