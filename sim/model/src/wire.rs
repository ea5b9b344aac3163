//! Connections between a client and a target: the frames on their way in both directions, and the
//! target's end.
//!
//! A frame is never changed and never overtakes another frame of its connection. When a connection
//! is cut, the frames that the other side still receives are a prefix of those on their way, and it
//! may receive them at any later time.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dst_broker::ConnectionId;
use dst_session::lease::Granted;
use dst_session::slots::Slots;
use dst_wire::{Device, Event, HEADER_LEN, Hello, Refusal, SessionRef, Welcome};

use crate::ledger::Io;

/// Identifies a connection: the target process, and the number that its broker has given.
pub type Key = (u8, ConnectionId);

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Up {
    /// The client's Hello.
    Hello(Arc<Hello>),
    /// A Request as it is on the wire; the number of the user's I/O stands for the data.
    Request {
        /// The header.
        header: [u8; HEADER_LEN],
        /// The I/O whose data follows.
        io: Io,
    },
    /// Keep-alive number `id`.
    KeepAlive {
        /// Its number.
        id: u64,
        /// The newest acknowledgement that the client has.
        has: u64,
    },
    /// The client ends the connection.
    Goodbye,
}

/// A frame from a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Down {
    /// The client is admitted.
    Welcome(Arc<Welcome>),
    /// The client is refused.
    Refusal(Arc<Refusal>),
    /// An Answer as it is on the wire, with the content that a read has found: the I/O that wrote
    /// the block.
    Answer {
        /// The header.
        header: [u8; HEADER_LEN],
        /// The block's content.
        found: Option<Io>,
    },
    /// The acknowledgement of a keep-alive.
    KeepAliveAck(u64),
    /// An event, for example that the export is gone.
    Event(Event),
}

/// A connection's queue at the target.
#[derive(Debug, Clone, Hash)]
pub struct ServedQueue {
    /// The session, the queue, and the epoch.
    pub place: SessionRef,
    /// The number of the session's ownership.
    pub ownership: Option<u64>,
    /// What was negotiated for the connection.
    pub device: Device,
    /// The record of answers.
    pub slots: Slots,
    /// The requests that the backend has: each slot, with its I/O.
    pub backend: Vec<(u16, Io)>,
}

/// The target's end of a connection.
#[derive(Debug, Clone)]
pub enum End {
    /// No Hello has arrived yet.
    Handshaking,
    /// Control has the Hello. Nothing is received meanwhile.
    Asking,
    /// The connection was admitted.
    Ready {
        /// How long the target executes what arrives; `None` in a world in which leases do not end.
        lease: Option<Granted>,
        /// The queue; `None` for a control connection.
        queue: Option<ServedQueue>,
    },
    /// The connection is closed when the Refusal is sent, which is at once.
    Refused,
    /// The socket is shut, and the backend still has requests of the connection.
    Draining {
        /// The queue with the requests that are left.
        queue: ServedQueue,
        /// Whether control was told.
        is_told: bool,
        /// Whether the client had sent a Goodbye.
        goodbye: bool,
    },
    /// Nothing of the connection is left.
    Gone,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The client that opened the connection.
    pub host: u8,
    /// Whether the client has not closed its end.
    pub is_held: bool,
    /// Frames on their way to the target.
    pub up: VecDeque<Up>,
    /// Frames on their way to the client.
    pub down: VecDeque<Down>,
    /// The target's end.
    pub end: End,
}

impl Wire {
    /// Returns a new connection on which the client has sent a Hello.
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

    /// Returns the connection's queue, as long as it may have requests.
    pub fn queue(&self) -> Option<&ServedQueue> {
        match &self.end {
            End::Ready { queue, .. } => queue.as_ref(),
            End::Draining { queue, .. } => Some(queue),
            End::Handshaking | End::Asking | End::Refused | End::Gone => None,
        }
    }

    /// Returns the same queue, for changing it.
    pub fn queue_mut(&mut self) -> Option<&mut ServedQueue> {
        match &mut self.end {
            End::Ready { queue, .. } => queue.as_mut(),
            End::Draining { queue, .. } => Some(queue),
            End::Handshaking | End::Asking | End::Refused | End::Gone => None,
        }
    }

    /// Adds to the hash whatever determines the behaviour from `now_us` on.
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

/// A message from control to the group of a target process.
#[derive(Debug, Clone, Hash)]
pub enum ToGroup {
    /// Admit the connection.
    Welcome(ConnectionId, Arc<Welcome>, Option<Box<(Device, Slots)>>),
    /// Refuse the connection.
    Refuse(ConnectionId, Arc<Refusal>),
    /// Send an event to the client.
    Event(ConnectionId, Event),
    /// Close the connection.
    Close(ConnectionId),
}

/// A message from the group to control.
#[derive(Debug, Clone, Hash)]
pub enum ToControl {
    /// A connection's Hello has arrived.
    Hello(ConnectionId, Arc<Hello>),
    /// A connection is shut, and the backend still has requests of it.
    Draining(ConnectionId),
    /// Nothing of a connection is left except its record of answers; the flag tells whether the
    /// client had sent a Goodbye.
    Finished(ConnectionId, Option<Slots>, bool),
    /// The record of answers comes back, because the connection for which it was meant is gone.
    Returned(ConnectionId, SessionRef, Slots),
}
