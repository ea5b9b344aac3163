//! SPDK before 24.09: nothing wakes a thread when a socket is readable, so no poller rests.

use crate::errno::{Errno, Result};
use crate::poller::Waker;
use crate::sock::{Group, Sock};

/// Never created.
pub(crate) enum Watch {}

impl Watch {
    pub(super) fn group(_: Group, _: &Waker) -> Result<Watch> {
        Err(Errno::ENOTSUP)
    }

    pub(super) fn sock(_: &Sock, _: &Waker) -> Result<Watch> {
        Err(Errno::ENOTSUP)
    }
}
