//! What an implementation of sockets has to do.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use super::lent::Lent;
use crate::errno::Result;

/// An implementation of sockets. Its sockets are used on any thread, by one at a time.
pub trait SockImpl: 'static {
    /// A connection or a listener, which is closed when it is dropped.
    type Socket: Send;
    /// A group of sockets on one thread.
    type Group;

    /// Returns true if the implementation has an address to listen on.
    fn has_address(address: IpAddr) -> bool;

    /// Connects. On a thread that is no SPDK thread, it may wait for the peer. Nothing is logged,
    /// as SPDK asks for every connection that names no implementation.
    fn connect(remote: SocketAddr) -> Result<Self::Socket>;

    /// Begins to connect. Nothing is logged.
    fn connect_async(remote: SocketAddr) -> Result<Self::Socket>;

    /// Returns what has become of an attempt to connect, or `None` as long as that is open. For a
    /// socket in no group, this call makes the progress.
    fn attempt(socket: &Self::Socket) -> Option<Result<()>>;

    /// Listens. Nothing is logged.
    fn listen(local: SocketAddr) -> Result<Self::Socket>;

    /// Accepts a connection, if one waits.
    fn accept(listener: &Self::Socket) -> Option<Self::Socket>;

    /// Reads. Returns 0 if the peer has closed. `EAGAIN`: nothing is there. HOT.
    fn read(socket: &Self::Socket, parts: &mut [IoSliceMut<'_>]) -> Result<usize>;

    /// Writes. Returns the number of bytes that were taken. `EAGAIN`: none. HOT.
    fn write(socket: &Self::Socket, parts: &[IoSlice<'_>]) -> Result<usize>;

    /// Takes data that its owner lends until [`SockImpl::released`] counts it or [`SockImpl::recall`]
    /// returns: `len` bytes in all, at most 4 MiB. Either all is taken or nothing. `EAGAIN`: there is no
    /// room now. HOT.
    fn lend(socket: &Self::Socket, parts: impl Iterator<Item = Lent>, len: usize) -> Result<()>;

    /// Returns how much of what was lent has come back, in bytes. HOT.
    fn released(socket: &Self::Socket) -> u64;

    /// Takes back all that is lent. A connection that needs it is reset.
    fn recall(socket: &Self::Socket);

    /// Returns the local address and the peer's.
    fn addresses(socket: &Self::Socket) -> Option<(SocketAddr, Option<SocketAddr>)>;

    /// Returns true if the connection has not ended.
    fn is_connected(socket: &Self::Socket) -> bool;

    /// Returns a number above 0 that it shares with the connections that are best used on the same
    /// thread, if it is not all the same who uses it. It never changes.
    fn placement(socket: &Self::Socket) -> Option<i32>;

    /// Creates a group.
    fn create_group() -> Self::Group;

    /// Adds a socket, which the group knows by a token.
    fn join(group: &mut Self::Group, socket: &Self::Socket, token: usize);

    /// Removes a socket, which the group knows by this token.
    fn leave(group: &mut Self::Group, socket: &Self::Socket, token: usize);

    /// Calls `ready` with the tokens of up to `limit` sockets: connections that have something to
    /// read or have ended, and listeners that have something to accept. HOT.
    fn poll(group: &mut Self::Group, limit: usize, ready: impl FnMut(usize));
}
