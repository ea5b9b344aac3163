//! A socket.

use std::net::SocketAddr;

use dst_tcp::{Chunk, ConnectionId, ListenerId, Reason};
use thiserror::Error;

use crate::frame::Held;

/// A socket of one interface. It is never used again for another socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The reason why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum End {
    /// TCP has ended it.
    #[error(transparent)]
    Tcp(Reason),
    /// The interface was deleted.
    #[error("the interface was deleted")]
    InterfaceDeleted,
}

/// What a socket is.
#[derive(Debug)]
pub enum Kind<F> {
    /// A listener.
    Listener(ListenerId),
    /// A connection that was asked for and is not open yet.
    Connecting(ConnectionId),
    /// An open connection.
    Open(Open<F>),
    /// A connection or listener that has ended.
    Ended(End),
}

/// An open connection.
#[derive(Debug)]
pub struct Open<F> {
    pub connection: ConnectionId,
    /// True if TCP has reported something to read that was not read to its end since.
    pub is_readable: bool,
    /// Received data of which a part was read.
    pub rest: Option<Chunk<Held<F>>>,
    /// The memory of data that is queued and not acknowledged, in bytes.
    pub queued: usize,
    /// The part of it that is lent, in bytes.
    pub lent: usize,
    /// What was lent and has come back since the connection was opened, in bytes.
    pub released: u64,
}

impl<F> Open<F> {
    pub fn new(connection: ConnectionId) -> Open<F> {
        Open { connection, is_readable: false, rest: None, queued: 0, lent: 0, released: 0 }
    }
}

/// A socket.
#[derive(Debug)]
pub struct Entry<F> {
    pub kind: Kind<F>,
    pub local: SocketAddr,
    pub remote: Option<SocketAddr>,
    /// The group that the socket is in, with the token that the group knows it by.
    pub group: Option<(u64, usize)>,
    /// True if the socket is in its group's list of those that may be ready.
    pub is_listed: bool,
}

impl<F> Entry<F> {
    pub fn new(kind: Kind<F>, local: SocketAddr, remote: Option<SocketAddr>) -> Entry<F> {
        Entry { kind, local, remote, group: None, is_listed: false }
    }

    /// Returns true if there is something to read, or nothing will ever come.
    pub fn is_ready(&self) -> bool {
        match &self.kind {
            Kind::Open(open) => open.is_readable || open.rest.is_some(),
            Kind::Ended(_) => true,
            Kind::Listener(_) | Kind::Connecting(_) => false,
        }
    }

    /// Returns the connection, if there is one that TCP knows of.
    pub fn connection(&self) -> Option<ConnectionId> {
        match &self.kind {
            Kind::Connecting(connection) => Some(*connection),
            Kind::Open(open) => Some(open.connection),
            Kind::Listener(_) | Kind::Ended(_) => None,
        }
    }
}
