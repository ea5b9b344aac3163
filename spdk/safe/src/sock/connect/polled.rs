//! Connecting by SPDK 25.09 and newer, which returns a socket at once. The socket makes progress
//! when it is polled.
//!
//! In these versions `spdk_sock_connect`, which the helpers call, polls without a pause and uses a
//! whole CPU until it is connected.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::rc::Rc;

use spdk_sys as sys;

use super::done::Done;
use crate::errno::{Errno, Result};
use crate::poller::Poller;
use crate::sock::{Endpoint, Sock};

/// The polling period, µs. Connecting over a local network takes about half as long.
const PERIOD_US: u64 = 200;

/// An attempt under way. The fields are in the order in which they must be dropped.
pub(super) struct PolledAttempt {
    _poller: Poller,
    _state: Rc<PolledState>,
}

struct PolledState {
    /// The socket. It is closed before the other fields are dropped, since until then SPDK may set
    /// `status`.
    sock: RefCell<Option<Sock>>,
    /// 0 or a negative errno, once SPDK has reported it.
    status: Cell<Option<c_int>>,
    done: RefCell<Option<Done>>,
}

/// Starts an attempt. Returns `done` if the socket implementation does not support this.
pub(super) fn start(to: &Endpoint, done: Done) -> Result<std::result::Result<PolledAttempt, Done>> {
    let state =
        Rc::new(PolledState { sock: RefCell::new(None), status: Cell::new(None), done: RefCell::new(None) });
    let arg = Rc::as_ptr(&state).cast_mut().cast::<c_void>();
    // SAFETY: numbers, flags and pointers, for which all zero is valid; SPDK fills in at most the
    // given size. The two strings (or null for the second) and the options are valid during the
    // call; `arg` is valid until the socket is connected or closed, see `PolledState`.
    let raw = unsafe {
        let mut opts: sys::spdk_sock_opts = std::mem::zeroed();
        opts.opts_size = size_of::<sys::spdk_sock_opts>();
        sys::spdk_sock_get_default_opts(&mut opts);
        let (ip, port) = (to.c_ip.as_ptr(), to.port.into());
        sys::spdk_sock_connect_async(ip, port, to.impl_ptr(), &mut opts, Some(finished), arg)
    };
    let Some(sock) = Sock::from_raw(raw) else {
        return match state.status.get() {
            Some(status) => Err(errno(status)),
            None => Ok(Err(done)),
        };
    };
    *state.sock.borrow_mut() = Some(sock);
    *state.done.borrow_mut() = Some(done);
    let polled = Rc::clone(&state);
    let poller = Poller::register(PERIOD_US, move || polled.look())?;
    Ok(Ok(PolledAttempt { _poller: poller, _state: state }))
}

impl PolledState {
    fn look(&self) -> bool {
        if let Some(sock) = &*self.sock.borrow() {
            // This call makes the progress. Its result alone says nothing, since it is also false if
            // the peer has already closed.
            // SAFETY: an open socket on its thread.
            let is_connected = unsafe { sys::spdk_sock_is_connected(sock.raw()) };
            if is_connected && self.status.get().is_none() {
                // SPDK's uring sockets report when they are flushed first (seen in 26.09).
                // SAFETY: an open socket on its thread, with nothing to send.
                unsafe { sys::spdk_sock_flush(sock.raw()) };
            }
        }
        let Some(status) = self.status.get() else { return false };
        let (sock, done) = (self.sock.borrow_mut().take(), self.done.borrow_mut().take());
        let (Some(sock), Some(done)) = (sock, done) else { return false };
        done(if status == 0 { Ok(sock) } else { Err(errno(status)) });
        true
    }
}

impl Drop for PolledState {
    fn drop(&mut self) {
        // The socket must be closed while `status` still exists.
        self.sock.get_mut().take();
    }
}

/// Returns SPDK's status as an error.
fn errno(status: c_int) -> Errno {
    if status < 0 { Errno(-status) } else { Errno::EIO }
}

extern "C" fn finished(state: *mut c_void, status: c_int) {
    // SAFETY: the state exists until the socket is connected or closed.
    unsafe { &*state.cast::<PolledState>() }.status.set(Some(status));
}
