//! The error of a socket function: a negative errno since SPDK 26.01, -1 and `errno` before.

use crate::errno::Errno;

/// Returns the error behind a negative `rc`. HOT.
#[cfg(spdk_sock_returns_errno)]
#[inline]
pub(super) fn failure(rc: isize) -> Errno {
    i32::try_from(rc.unsigned_abs()).map_or(Errno::EIO, Errno)
}

/// Returns the error behind a negative `rc`. Call it right after the failed call. HOT.
#[cfg(not(spdk_sock_returns_errno))]
#[inline]
pub(super) fn failure(_rc: isize) -> Errno {
    crate::errno::last_or(Errno::EIO)
}
