//! Sock implementations: what SPDK's sockets call when they are asked for by name, or before its
//! own implementations.
//!
//! The table of functions differs between versions of SPDK; [`register`] tells whether this one's
//! is known.

use std::ffi::CStr;
use std::net::IpAddr;
use std::sync::OnceLock;

use crate::errno::Result;

#[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
mod connecting;
#[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
mod handle;
#[cfg(any(test, spdk_net_impl_26_01))]
mod homes;
mod implementation;
#[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
mod lendings;
mod lent;
#[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
mod sending;
#[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
mod table;

pub use implementation::SockImpl;
pub use lent::Lent;

static HAS_ADDRESS: OnceLock<fn(IpAddr) -> bool> = OnceLock::new();

/// Returns true if a registered implementation has an address.
pub(crate) fn has_address(address: IpAddr) -> bool {
    HAS_ADDRESS.get().is_some_and(|has_address| has_address(address))
}

/// Returns the placement of a socket: see [`SockImpl::placement`].
///
/// # Safety
/// The socket is open, and is not closed meanwhile.
pub(crate) unsafe fn placement(sock: *mut spdk_sys::spdk_sock) -> Option<i32> {
    #[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
    {
        // SAFETY: the caller guarantees this.
        unsafe { table::placement(sock) }
    }
    #[cfg(not(any(spdk_net_impl_20_07, spdk_net_impl_26_01)))]
    {
        let _ = sock;
        None
    }
}

/// Registers an implementation. Up to 20.07 SPDK asks it before those of lower priority if none is
/// named; its `posix` has priority 0. Newer versions then use the default one, which the user
/// chooses. Call it once, from a [`constructor!`](crate::constructor!).
///
/// `ENOTSUP`: this version of SPDK has another table of functions.
pub fn register<I: SockImpl>(name: &'static CStr, priority: i32) -> Result<()> {
    #[cfg(any(spdk_net_impl_20_07, spdk_net_impl_26_01))]
    {
        table::register::<I>(name, priority);
        let _ = HAS_ADDRESS.set(I::has_address);
        Ok(())
    }
    #[cfg(not(any(spdk_net_impl_20_07, spdk_net_impl_26_01)))]
    {
        let _ = (name, priority);
        Err(crate::Errno::ENOTSUP)
    }
}

/// Returns true if [`register`] knows the table of this version of SPDK.
pub const fn is_supported() -> bool {
    cfg!(any(spdk_net_impl_20_07, spdk_net_impl_26_01))
}
