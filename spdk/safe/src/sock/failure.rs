//! How the functions on sockets say what failed: a negative errno from 26.01 on, -1 and `errno` before.

use crate::errno::Errno;

/// The error behind a negative `rc`. HOT.
#[cfg(spdk_sock_returns_errno)]
#[inline]
pub(super) fn failure(rc: isize) -> Errno {
    i32::try_from(rc.unsigned_abs()).map_or(Errno::EIO, Errno)
}

/// The error behind a negative `rc`, right after the call. HOT.
#[cfg(not(spdk_sock_returns_errno))]
#[inline]
pub(super) fn failure(_rc: isize) -> Errno {
    crate::errno::last_or(Errno::EIO)
}
