//! The messages between the control thread and the groups' threads. Each is one SPDK thread
//! message, and messages from one thread to another arrive in the order in which they were sent.

use std::net::SocketAddr;
use std::sync::Arc;

use dst_broker::{ConnectionActivity, ConnectionId, Joining, Remains, ResetStep, SessionId};
use dst_security::Secured;
use dst_session::holds::HoldId;
use dst_session::slots::Slots;
use dst_wire::{Event, Hello, Refusal, Welcome};
use spdk::bdev::DescRef;
use spdk::sock::Sock;
use spdk::thread::Thread;

use crate::backend_resets::BackendResets;
use crate::holds::HoldNotice;

/// A message of the control thread to a group. A group that no longer has the connection ignores
/// the message, unless noted otherwise.
pub enum ToGroup {
    /// Take this connection, which a listener has accepted.
    Adopt {
        /// The connection.
        connection: ConnectionId,
        /// The connection's socket.
        sock: Sock,
        /// The client's address.
        peer: SocketAddr,
    },
    /// Send the target's part of the key agreement: the client has proved its key. Everything
    /// behind it is encrypted.
    Secure {
        /// The connection.
        connection: ConnectionId,
        /// The target's part of the key agreement, for the client.
        answer: Vec<u8>,
        /// The keys of the connection.
        secured: Box<Secured>,
    },
    /// Admit the connection. With `join`, the connection carries requests; a group that no longer
    /// has the connection sends the record back with [`ToControl::Returned`].
    Welcome {
        /// The connection.
        connection: ConnectionId,
        /// The Welcome for the client.
        welcome: Box<Welcome>,
        /// The parameters of a connection that carries requests.
        join: Option<Box<Join>>,
    },
    /// Refuse the connection, and close it once the refusal is sent.
    Refuse {
        /// The connection.
        connection: ConnectionId,
        /// The refusal for the client.
        refusal: Refusal,
    },
    /// Pass an event to the connection, which sends it to the client or acts on it.
    Event {
        /// The connection.
        connection: ConnectionId,
        /// The event.
        event: Event,
    },
    /// Take this step of a reset that a client has asked for.
    Reset {
        /// The connection.
        connection: ConnectionId,
        /// The step.
        step: ResetStep,
    },
    /// Close the connection, after sending what the socket takes at once.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
    /// Close the connection, because the target stops: begin no more requests, answer what the backend
    /// has, and tell the client that nothing else was executed.
    Leave {
        /// The connection.
        connection: ConnectionId,
    },
    /// Answer with [`ToControl::Counted`].
    Count {
        /// The number of the question.
        question: u64,
    },
    /// Hold these requests from now on, or no longer. This concerns all groups, including those
    /// without connections of the requests' clients.
    Holds {
        /// The core of the group that has reported the changes. It may send its next report now.
        by: u32,
        /// The changes, in order.
        notices: Arc<[HoldNotice]>,
    },
    /// All groups hold these requests.
    Held(Arc<[HoldId]>),
    /// End the group, which has no connections any more, and its thread.
    Stop,
}

/// The parameters of a connection that carries requests.
pub struct Join {
    /// The export's bdev.
    pub bdev: DescRef,
    /// The negotiated parameters, and the record of the queue.
    pub joining: Joining,
    /// The resets of backends.
    pub backend_resets: Arc<BackendResets>,
}

/// A message of a group to the control thread.
pub enum ToControl {
    /// The group of a core has started or failed to.
    Started {
        /// The core.
        core: u32,
        /// The outcome.
        result: spdk::Result<()>,
    },
    /// A client has sent a Hello. Nothing more is received on the connection until it is admitted
    /// or refused.
    Hello {
        /// The connection.
        connection: ConnectionId,
        /// The Hello.
        hello: Box<Hello>,
    },
    /// A client has sent its part of the key agreement.
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
    /// A connection has answered all requests that it had when it was told [`ResetStep::Quiesce`].
    Quiesced {
        /// The connection.
        connection: ConnectionId,
        /// The number from [`ResetStep::Quiesce`].
        round: u64,
    },
    /// A connection's socket is closed, and the backend still has requests of the connection.
    Draining {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection is gone, and the backend has none of its requests.
    Finished {
        /// The connection.
        connection: ConnectionId,
        /// What is left of the connection.
        remains: Box<Remains>,
    },
    /// A record comes back from a connection that was gone before it could receive the record.
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
    /// Requests are to be held, or no longer. The group sends its next report only after
    /// [`ToGroup::Holds`] has answered this one.
    Holds {
        /// The core of the group.
        by: u32,
        /// The changes, in order.
        notices: Vec<HoldNotice>,
    },
    /// The answer to [`ToGroup::Count`].
    Counted {
        /// The number of the question.
        question: u64,
        /// The activity of each of the group's connections that has counted anything.
        counts: Vec<(ConnectionId, Box<ConnectionActivity>)>,
    },
}

/// Sends messages to the control thread.
#[derive(Clone, Copy)]
pub struct ControlSender {
    thread: Thread,
    deliver: fn(ToControl),
}

impl ControlSender {
    /// Returns a sender to `thread`, on which `deliver` handles each message.
    pub fn new(thread: Thread, deliver: fn(ToControl)) -> ControlSender {
        ControlSender { thread, deliver }
    }

    /// Sends a message to the control thread.
    ///
    /// # Panics
    /// Panics if SPDK can't take the message: the control thread would wait for it for ever.
    pub fn tell(&self, message: ToControl) {
        let deliver = self.deliver;
        if let Err(errno) = self.thread.send(move || deliver(message)) {
            panic!("a DST target thread can't send to the control thread: {errno}");
        }
    }
}
