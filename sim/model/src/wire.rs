//! Connections between a client and a target: frames under way in both directions, and the target's end.
//!
//! A frame is never changed and never overtakes another one of its connection. When a connection is cut, the
//! frames that the other side gets still are a prefix of those under way, and it may get them at any later
//! time.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dst_broker::ConnectionId;
use dst_session::lease::Granted;
use dst_session::slots::Slots;
use dst_wire::{Device, Event, HEADER_LEN, Hello, Refusal, SessionRef, Welcome};

use crate::ledger::Io;

/// Names a connection: the target process, and the number that its broker gave.
pub type Key = (u8, ConnectionId);

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Up {
    /// The client says hello.
    Hello(Arc<Hello>),
    /// A request as it is on the wire; the user's I/O stands for the data.
    Request {
        /// The header.
        header: [u8; HEADER_LEN],
        /// Whose data follows.
        io: Io,
    },
    /// Keep-alive number `id`, of a client that has the acknowledgement number `has`.
    KeepAlive {
        /// Its number.
        id: u64,
        /// The newest acknowledgement that the client has.
        has: u64,
    },
    /// The client ends the connection on purpose.
    Goodbye,
}

/// A frame from a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Down {
    /// The client is let in.
    Welcome(Arc<Welcome>),
    /// The client is not let in.
    Refusal(Arc<Refusal>),
    /// An answer as it is on the wire, and what a read has found: the I/O that wrote the block.
    Answer {
        /// The header.
        header: [u8; HEADER_LEN],
        /// The block's content.
        found: Option<Io>,
    },
    /// The acknowledgement of a keep-alive.
    KeepAliveAck(u64),
    /// Something changed.
    Event(Event),
}

/// A connection's requests at the target.
#[derive(Debug, Clone, Hash)]
pub struct ServedQueue {
    /// The session, the queue, and the epoch.
    pub place: SessionRef,
    /// The number of the session's ownership.
    pub ownership: Option<u64>,
    /// What was negotiated.
    pub device: Device,
    /// The record of answers.
    pub slots: Slots,
    /// What the backend has: the slots and whose I/O it is.
    pub backend: Vec<(u16, Io)>,
}

/// A connection at its group.
#[derive(Debug, Clone)]
pub enum End {
    /// No hello has come yet.
    Handshaking,
    /// Control has the hello. Nothing is received meanwhile.
    Asking,
    /// The connection was let in; a control connection has no queue.
    Ready {
        /// Until when it executes; none in a world in which it does not end.
        lease: Option<Granted>,
        /// Its requests.
        queue: Option<ServedQueue>,
    },
    /// The connection is closed when the refusal is sent, which is at once.
    Refused,
    /// The socket is shut, and the backend has something of it.
    Draining {
        /// What is left.
        queue: ServedQueue,
        /// Whether control has heard of that.
        is_told: bool,
        /// Whether the client had said goodbye.
        goodbye: bool,
    },
    /// Nothing is left.
    Gone,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Whose connection it is.
    pub host: u8,
    /// Whether the client still has its end.
    pub is_held: bool,
    /// Frames to the target.
    pub up: VecDeque<Up>,
    /// Frames to the client.
    pub down: VecDeque<Down>,
    /// The target's end.
    pub end: End,
}

impl Wire {
    /// Returns a new connection, on which the client has said hello.
    pub fn new(host: u8, hello: Arc<Hello>) -> Wire {
        Wire {
            host,
            is_held: true,
            up: VecDeque::from([Up::Hello(hello)]),
            down: VecDeque::new(),
            end: End::Handshaking,
        }
    }

    /// Returns true if the target's socket is open.
    pub fn is_open_at_target(&self) -> bool {
        !matches!(self.end, End::Draining { .. } | End::Gone)
    }

    /// Returns the connection's requests, as long as there may be any.
    pub fn queue(&self) -> Option<&ServedQueue> {
        match &self.end {
            End::Ready { queue, .. } => queue.as_ref(),
            End::Draining { queue, .. } => Some(queue),
            End::Handshaking | End::Asking | End::Refused | End::Gone => None,
        }
    }

    /// Returns the same to be changed.
    pub fn queue_mut(&mut self) -> Option<&mut ServedQueue> {
        match &mut self.end {
            End::Ready { queue, .. } => queue.as_mut(),
            End::Draining { queue, .. } => Some(queue),
            End::Handshaking | End::Asking | End::Refused | End::Gone => None,
        }
    }

    /// Feeds what decides from `now_us` on to the hash.
    pub fn canonical(&self, now_us: u64, hasher: &mut impl Hasher) {
        let Wire { host, is_held, up, down, end } = self;
        (host, is_held, up, down).hash(hasher);
        match end {
            End::Handshaking => 0.hash(hasher),
            End::Asking => 1.hash(hasher),
            End::Ready { lease, queue } => {
                (2, lease.as_ref().map(|lease| lease.canonical(now_us)), queue).hash(hasher)
            }
            End::Refused => 3.hash(hasher),
            End::Draining { queue, is_told, goodbye } => (4, queue, is_told, goodbye).hash(hasher),
            End::Gone => 5.hash(hasher),
        }
    }
}

/// What control tells the group of a target process.
#[derive(Debug, Clone, Hash)]
pub enum ToGroup {
    /// Let the connection in.
    Welcome(ConnectionId, Arc<Welcome>, Option<Box<(Device, Slots)>>),
    /// Refuse the connection.
    Refuse(ConnectionId, Arc<Refusal>),
    /// Pass an event on.
    Event(ConnectionId, Event),
    /// Close the connection.
    Close(ConnectionId),
}

/// What the group tells control.
#[derive(Debug, Clone, Hash)]
pub enum ToControl {
    /// A connection says hello.
    Hello(ConnectionId, Arc<Hello>),
    /// A connection is shut, and the backend has something of it.
    Draining(ConnectionId),
    /// Nothing of a connection is left but its record; whether the client had said goodbye.
    Finished(ConnectionId, Option<Slots>, bool),
    /// The record comes back from a connection that was gone before it could have it.
    Returned(ConnectionId, SessionRef, Slots),
}
