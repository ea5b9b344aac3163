//! Connecting since 25.09: whoever connects is told when the socket is connected or has failed, in a
//! call that uses the socket.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use spdk_sys as sys;

use super::super::implementation::SockImpl;
use crate::errno::{Errno, Result};

/// What a socket knows about the attempt to connect that it began with.
pub struct Attempt(Cell<State>);

#[derive(Clone, Copy, Default)]
enum State {
    /// Nobody is to be told anything any more.
    #[default]
    Told,
    /// The function is to be called with the result.
    Pending { done: sys::spdk_sock_connect_cb_fn, argument: *mut c_void },
}

impl Attempt {
    /// Returns what a socket has that is open, or of which nobody wants to be told.
    pub fn none() -> Attempt {
        Attempt(Cell::new(State::Told))
    }

    /// Returns an attempt whose result `done` gets, if it is not null.
    pub fn new(done: sys::spdk_sock_connect_cb_fn, argument: *mut c_void) -> Attempt {
        Attempt(Cell::new(State::Pending { done, argument }))
    }

    /// Returns `EAGAIN` until the socket is connected, and the reason if it has just failed; what is
    /// read tells it from then on. Tells whoever connects. HOT.
    #[inline]
    pub fn look<I: SockImpl>(&self, socket: &I::Socket) -> Result<()> {
        match self.0.get() {
            State::Told => Ok(()),
            State::Pending { .. } => self.look_at_pending::<I>(socket),
        }
    }

    fn look_at_pending<I: SockImpl>(&self, socket: &I::Socket) -> Result<()> {
        let result = I::attempt(socket).ok_or(Errno::EAGAIN)?;
        self.tell(result.map_or_else(|errno| -errno.0, |()| 0));
        result
    }

    /// Tells whoever connects that the socket is closed, as SPDK's `posix` does.
    pub fn cancel(&self) {
        self.tell(-libc::ECONNRESET);
    }

    fn tell(&self, status: c_int) {
        if let State::Pending { done: Some(done), argument } = self.0.take() {
            // SAFETY: SPDK's contract: the function is called once, with its argument, while the
            // socket is open. It does not close the socket.
            unsafe { done(argument, status) };
        }
    }
}
