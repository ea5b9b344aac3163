//! What the stack tells its user.

use thiserror::Error;

/// A connection of one stack. It stays valid until [`Event::Closed`], and is never given to another
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// Returns a number that no other connection of the stack has at the same time. The numbers are
    /// small: less than the largest number of connections that there were at a time.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// A listener of one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub(crate) u32);

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// Both sides closed.
    #[error("both sides closed the connection")]
    Finished,
    /// The user aborted it.
    #[error("the connection was aborted by its user")]
    Aborted,
    /// The peer reset it.
    #[error("the connection was reset by the peer")]
    Reset,
    /// Nothing listens at the peer's port.
    #[error("the connection was refused by the peer")]
    Refused,
    /// The peer's host, or a router on the way, does not take the connection, or the next hop does
    /// not answer.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// The peer does not answer.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The peer sent data after the user had closed.
    #[error("the peer sent data that nobody will read")]
    Unread,
}

/// What has happened. `B` is the user's reference to data to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<B> {
    /// The connection that the user asked for is open.
    Connected(ConnectionId),
    /// A connection waits to be accepted.
    Incoming(ListenerId),
    /// There is something to read: data, or the end of the peer's data. It is told once, until all
    /// has been read.
    Readable(ConnectionId),
    /// The data was acknowledged, or never will be because the connection has ended. The stack has
    /// no reference to it any more.
    Released(ConnectionId, B),
    /// The connection has ended; its id is no longer valid. It is the last event of a connection
    /// that was connected or accepted.
    Closed(ConnectionId, Reason),
}
