//! A connection as the broker sees it, from its acceptance until nothing of it is left.

use std::net::SocketAddr;

use dst_session::access::KeySource;
use dst_session::slots::Slots;
use dst_wire::{Cipher, Hello, SessionRef};

use crate::ids::{ClientId, SessionId};
use crate::stats::Stats;

/// The proof of a key by a connection's client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proof {
    /// The host and the export to which the key belongs. The hello must name the same.
    pub client: ClientId,
    /// The source of the key.
    pub keys: KeySource,
    /// The cipher of the connection.
    pub cipher: Cipher,
}

/// The facts that the broker needs for a hello that opens a session and cannot know by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The id of the session, if one is opened: 16 random bytes, never used before.
    pub session: SessionId,
    /// The target process that had the client's previous session.
    pub previous: PreviousProcess,
}

/// What is known of the target process that had a client's previous session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviousProcess {
    /// The client had no previous session, or nothing is known of its target process.
    Unknown,
    /// It is this process.
    This,
    /// It was another process, which has certainly ended.
    Ended,
}

/// A hello to be decided about, and the proof that came before it.
#[derive(Debug, Clone, Hash)]
pub(crate) struct PendingHello {
    pub hello: Box<Hello>,
    pub proof: Option<Proof>,
}

/// A queue of a session, and the client that has the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct QueueRef {
    pub client: ClientId,
    pub session: SessionRef,
}

/// How far a connection has come.
#[derive(Debug, Clone, Hash)]
pub(crate) enum Stage {
    /// No hello has come yet.
    Handshaking { proof: Option<Proof> },
    /// The hello opens a session once the backend has finished what is left of closed connections:
    /// those of its host at the export or, if the session will own the export, those of all hosts
    /// at the export.
    WaitingToOpen(PendingHello),
    /// The hello opens a session once its host's ownership of the export is durable.
    WaitingToOwn(PendingHello),
    /// The hello joins a queue once the queue's previous connection is gone.
    WaitingForQueue(PendingHello, QueueRef),
    /// The connection is admitted.
    Ready(QueueRef),
    /// The connection was refused. Its group closes it once the refusal is sent.
    Refused,
    /// The socket is closed, or is about to be. The backend may still hold requests of the
    /// connection.
    Closing { queue: Option<QueueRef>, waited_to_open: bool },
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub group: usize,
    pub peer: SocketAddr,
    /// When the connection was accepted.
    pub since_us: u64,
    pub stage: Stage,
}

impl Connection {
    pub fn new(group: usize, peer: SocketAddr, since_us: u64) -> Connection {
        Connection { group, peer, since_us, stage: Stage::Handshaking { proof: None } }
    }

    /// Returns true until the connection is closed.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Closing { .. })
    }

    /// Returns true if the connection is admitted and carries requests.
    pub fn carries_requests(&self) -> bool {
        matches!(&self.stage, Stage::Ready(queue) if queue.session.queue != 0)
    }

    /// Returns true if the connection waits to be admitted.
    pub fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::WaitingToOwn(_) | Stage::WaitingToOpen(_) | Stage::WaitingForQueue(..))
    }

    /// Returns the queue that the connection has, had, or waits for.
    pub fn queue(&self) -> Option<&QueueRef> {
        match &self.stage {
            Stage::WaitingForQueue(_, queue) | Stage::Ready(queue) => Some(queue),
            Stage::Closing { queue, .. } => queue.as_ref(),
            Stage::Handshaking { .. } | Stage::WaitingToOwn(_) | Stage::WaitingToOpen(_) | Stage::Refused => {
                None
            }
        }
    }

    /// Returns the client's proof of a key, as long as the connection may still be admitted.
    pub fn proof(&self) -> Option<&Proof> {
        match &self.stage {
            Stage::Handshaking { proof } => proof.as_ref(),
            Stage::WaitingToOwn(pending)
            | Stage::WaitingToOpen(pending)
            | Stage::WaitingForQueue(pending, _) => pending.proof.as_ref(),
            Stage::Ready(_) | Stage::Refused | Stage::Closing { .. } => None,
        }
    }

    /// Returns true if the connection waits, or waited when it was closed, to open a session.
    pub fn waited_to_open(&self) -> bool {
        matches!(self.stage, Stage::WaitingToOpen(_) | Stage::Closing { waited_to_open: true, .. })
    }

    /// Closes the connection. Returns false if it was closed before.
    pub fn close(&mut self) -> bool {
        if !self.is_open() {
            return false;
        }
        let (queue, waited_to_open) = (self.queue().cloned(), self.waited_to_open());
        self.stage = Stage::Closing { queue, waited_to_open };
        true
    }
}

/// What is left of a connection once the backend holds nothing of it.
#[derive(Debug, Clone, Default)]
pub struct Remains {
    /// The record of its queue, if the connection had one.
    pub slots: Option<Slots>,
    /// Whether the client ended the connection with a Goodbye.
    pub goodbye: bool,
    /// The connection's counts.
    pub stats: Stats,
}
