//! A socket, as SPDK's pointers refer to it.

use std::ffi::c_int;

use spdk_sys as sys;

use super::connecting::Attempt;
use super::implementation::SockImpl;
use super::lendings::Lendings;
use crate::errno::{Errno, Result};

/// A socket as SPDK has it.
#[repr(C)]
pub(super) struct Sock<S> {
    /// The first field, because SPDK knows the socket by a pointer to it.
    pub base: sys::spdk_sock,
    pub socket: S,
    pub attempt: Attempt,
    pub lendings: Lendings,
}

/// Sets `errno`, and returns what tells this version of SPDK that a call has failed.
pub(super) fn fail(errno: Errno) -> c_int {
    // SAFETY: the location is valid for as long as the OS thread runs.
    unsafe { *libc::__errno_location() = errno.0 };
    if cfg!(spdk_sock_returns_errno) { -errno.0 } else { -1 }
}

/// Looks what has become of the attempt to connect that the socket began with.
///
/// # Safety
/// As for [`socket`].
pub(super) unsafe fn look<I: SockImpl>(sock: *mut sys::spdk_sock) -> Result<()> {
    // SAFETY: the caller guarantees this; nobody changes these.
    let (attempt, socket) = unsafe {
        let sock = sock.cast::<Sock<I::Socket>>();
        (&(*sock).attempt, &(*sock).socket)
    };
    attempt.look::<I>(socket)
}

pub(super) fn transferred(result: Result<usize>) -> isize {
    result.map_or_else(|errno| fail(errno) as isize, |count| count as isize)
}

/// Returns the socket behind SPDK's pointer.
///
/// # Safety
/// The socket is one of `I`'s and is not closed meanwhile.
pub(super) unsafe fn socket<'a, I: SockImpl>(sock: *mut sys::spdk_sock) -> &'a I::Socket {
    // SAFETY: the caller guarantees this; nobody changes it.
    unsafe { &(*sock.cast::<Sock<I::Socket>>()).socket }
}
