//! Sock implementations: what SPDK's sockets call when they are asked for by name, or before its
//! own implementations.
//!
//! The table of functions differs between versions of SPDK; [`register`] tells whether this one's
//! is known.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use crate::errno::Result;

#[cfg(spdk_net_impl_20_07)]
mod table;

/// An implementation of sockets. Its sockets are used on any thread, by one at a time.
pub trait SockImpl: 'static {
    /// A connection or a listener, which is closed when it is dropped.
    type Socket: Send;
    /// A group of sockets on one thread.
    type Group;

    /// Returns true if the implementation has an address to listen on.
    fn has_address(address: IpAddr) -> bool;

    /// Connects. On a thread that is no SPDK thread, it may wait for the peer. Nothing is logged, as
    /// SPDK asks for every connection that names no implementation.
    fn connect(remote: SocketAddr) -> Result<Self::Socket>;

    /// Listens. Nothing is logged.
    fn listen(local: SocketAddr) -> Result<Self::Socket>;

    /// Accepts a connection, if one waits.
    fn accept(listener: &Self::Socket) -> Option<Self::Socket>;

    /// Reads. Returns 0 if the peer has closed. `EAGAIN`: nothing is there. HOT.
    fn read(socket: &Self::Socket, parts: &mut [IoSliceMut<'_>]) -> Result<usize>;

    /// Writes. Returns the number of bytes that were taken. `EAGAIN`: none. HOT.
    fn write(socket: &Self::Socket, parts: &[IoSlice<'_>]) -> Result<usize>;

    /// Returns the local address and the peer's.
    fn addresses(socket: &Self::Socket) -> Option<(SocketAddr, Option<SocketAddr>)>;

    /// Returns true if the connection has not ended.
    fn is_connected(socket: &Self::Socket) -> bool;

    /// Creates a group.
    fn create_group() -> Self::Group;

    /// Adds a socket, which the group knows by a token.
    fn join(group: &mut Self::Group, socket: &Self::Socket, token: usize);

    /// Removes a socket.
    fn leave(group: &mut Self::Group, socket: &Self::Socket);

    /// Calls `ready` with the tokens of up to `limit` sockets that have something to read or have
    /// ended. HOT.
    fn poll(group: &mut Self::Group, limit: usize, ready: impl FnMut(usize));
}

static HAS_ADDRESS: OnceLock<fn(IpAddr) -> bool> = OnceLock::new();

/// Returns true if a registered implementation has an address.
pub(crate) fn has_address(address: IpAddr) -> bool {
    HAS_ADDRESS.get().is_some_and(|has_address| has_address(address))
}

/// Registers an implementation, which SPDK asks before those of lower priority if none is named.
/// SPDK's `posix` has priority 0. Call it once, from a [`constructor!`](crate::constructor!).
///
/// `ENOTSUP`: this version of SPDK has another table of functions.
pub fn register<I: SockImpl>(name: &'static CStr, priority: i32) -> Result<()> {
    #[cfg(spdk_net_impl_20_07)]
    {
        table::register::<I>(name, priority);
        let _ = HAS_ADDRESS.set(I::has_address);
        Ok(())
    }
    #[cfg(not(spdk_net_impl_20_07))]
    {
        let _ = (name, priority);
        Err(crate::Errno::ENOTSUP)
    }
}

/// Returns true if [`register`] knows the table of this version of SPDK.
pub const fn is_supported() -> bool {
    cfg!(spdk_net_impl_20_07)
}
