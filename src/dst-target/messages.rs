//! The conversation between the control thread and the groups' threads. Each message is one SPDK
//! thread message, and messages from one thread to another arrive in the order in which they were
//! sent.

use std::net::SocketAddr;
use std::sync::Arc;

use dst_broker::{Activity, ConnectionId, Joining, Remains, ResetStep, SessionId};
use dst_security::Secured;
use dst_session::holds::HoldId;
use dst_session::slots::Slots;
use dst_wire::{Event, Hello, Refusal, Welcome};
use spdk::bdev::DescRef;
use spdk::sock::Sock;
use spdk::thread::Thread;

use crate::backend_resets::BackendResets;
use crate::holds::HoldNotice;

/// What control tells a group. A group that no longer has the connection ignores the message, unless
/// noted otherwise.
pub enum ToGroup {
    /// A listener has accepted this connection: the group owns it from now on.
    Adopt {
        /// The connection.
        connection: ConnectionId,
        /// Its socket.
        sock: Sock,
        /// The client's address.
        peer: SocketAddr,
    },
    /// The connection's client has shown its key: everything behind this answer is encrypted.
    Secure {
        /// The connection.
        connection: ConnectionId,
        /// The target's part of the key agreement, for the client.
        answer: Vec<u8>,
        /// The keys of the connection.
        secured: Box<Secured>,
    },
    /// The connection is let in. With `join` the connection carries requests; a group that no longer
    /// has the connection sends the record back with [`ToControl::Returned`].
    Welcome {
        /// The connection.
        connection: ConnectionId,
        /// What the client is told.
        welcome: Box<Welcome>,
        /// What a connection that carries requests needs.
        join: Option<Box<Join>>,
    },
    /// The connection is refused: it is closed when the refusal is sent.
    Refuse {
        /// The connection.
        connection: ConnectionId,
        /// What the client is told.
        refusal: Refusal,
    },
    /// Something changed that the connection, or its client, has to know.
    Event {
        /// The connection.
        connection: ConnectionId,
        /// What changed.
        event: Event,
    },
    /// The connection takes part in a reset that a client asked for.
    Reset {
        /// The connection.
        connection: ConnectionId,
        /// What it does.
        step: ResetStep,
    },
    /// The connection is closed, after what can be sent at once.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// The group answers with [`ToControl::Counted`].
    Count {
        /// Names the question.
        question: u64,
    },
    /// These requests are held from now on, or not any longer, whether the group has connections of
    /// their owners or not.
    Holds {
        /// The core of the group that has reported it, which may report more now.
        by: u32,
        /// What changes, in order.
        notices: Arc<[HoldNotice]>,
    },
    /// All groups hold these requests.
    Held(Arc<[HoldId]>),
    /// The group and its thread end. It has no connections any more.
    Stop,
}

/// What a connection that carries requests needs.
pub struct Join {
    /// The export's bdev.
    pub bdev: DescRef,
    /// What was negotiated, and the record of the queue.
    pub joining: Joining,
    /// The resets of backends.
    pub backend_resets: Arc<BackendResets>,
}

/// What a group tells control.
pub enum ToControl {
    /// The group of a core is there, or has found no memory.
    Started {
        /// The core.
        core: u32,
        /// How that went.
        result: spdk::Result<()>,
    },
    /// A connection says hello. Nothing more is received from it until it is welcomed or refused.
    Hello {
        /// The connection.
        connection: ConnectionId,
        /// What it says.
        hello: Box<Hello>,
    },
    /// A connection wants to be secured.
    Secure {
        /// The connection.
        connection: ConnectionId,
        /// The client's part of the key agreement.
        message: Vec<u8>,
    },
    /// A client asks for a reset.
    Reset {
        /// The connection.
        connection: ConnectionId,
        /// The slot of the request.
        slot: u16,
    },
    /// A connection has answered what it had when it was told [`ResetStep::Quiesce`].
    Quiesced {
        /// The connection.
        connection: ConnectionId,
        /// The number that it was told.
        round: u64,
    },
    /// A connection's socket is shut, and the backend still has something of it.
    Draining {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection is gone, and the backend has nothing of it any more.
    Finished {
        /// The connection.
        connection: ConnectionId,
        /// What is left of it.
        remains: Box<Remains>,
    },
    /// A record comes back from a connection that was gone before it could have it.
    Returned {
        /// The connection.
        connection: ConnectionId,
        /// The session.
        session: SessionId,
        /// The number of the queue.
        queue: u16,
        /// The record.
        slots: Slots,
    },
    /// Requests are to be held, or not any longer. The group reports no more before it is told of
    /// them with [`ToGroup::Holds`].
    Holds {
        /// The core of the group.
        by: u32,
        /// What changes, in order.
        notices: Vec<HoldNotice>,
    },
    /// What each of the group's connections did so far, and does.
    Counted {
        /// Names the question.
        question: u64,
        /// By connection.
        counts: Vec<(ConnectionId, Box<Activity>)>,
    },
}

/// How groups reach the control thread.
#[derive(Clone, Copy)]
pub struct Control {
    thread: Thread,
    deliver: fn(ToControl),
}

impl Control {
    /// Returns the way to `thread`, on which `deliver` takes each message.
    pub fn new(thread: Thread, deliver: fn(ToControl)) -> Control {
        Control { thread, deliver }
    }

    /// Sends a message to control.
    ///
    /// # Panics
    /// SPDK can't take the message: control would wait for ever for what it was not told.
    pub fn tell(&self, message: ToControl) {
        let deliver = self.deliver;
        if let Err(errno) = self.thread.send(move || deliver(message)) {
            panic!("a DST target thread can't send to the control thread: {errno}");
        }
    }
}
