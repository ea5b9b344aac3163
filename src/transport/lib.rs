//! Moves frames over an SPDK socket, in batches: one system call for as many as are there.
//!
//! Both sides use it: [`Receiver`] for what comes in, [`Outbox`] for the few control frames that go out
//! between requests and answers, [`Stream`] for the bytes of both, encrypted or not, with keys that come from
//! [`read_keys`].

#![forbid(unsafe_code)]

mod batch;
mod key;
mod outbox;
mod receiver;
mod records;
mod stream;
mod workers;

pub use key::read_keys;
pub use outbox::Outbox;
pub use receiver::{Flow, Frames, Pumped, RECEIVE_BUFFER, Receiver};
pub use stream::Stream;
pub use workers::{set_workers, workers};

use thiserror::Error;

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Socket(spdk::Errno),
    /// The peer sent what it may not.
    #[error("protocol violation: {0}")]
    Violation(#[from] dst_session::Violation),
    /// A record that the peer did not send so.
    #[error("not secure: {0}")]
    Record(#[from] dst_security::RecordError),
    /// Nothing was heard for the keep-alive time-out.
    #[error("nothing heard for {0} ms")]
    Silent(u64),
    /// A transaction was not answered in its time.
    #[error("a transaction was not answered for {0} ms")]
    Unanswered(u64),
    /// The session was given up.
    #[error("the session is over")]
    SessionOver,
    /// A reset has to wait for a credit, which what it is to end has.
    #[error("a reset came while all its requests are outstanding")]
    ResetWaits,
    /// The peer took nothing of what waits for it for the keep-alive time-out.
    #[error("the peer took nothing for {0} ms")]
    NotTaking(u64),
    /// The handshake was not over in its time.
    #[error("it was not let in within {0} ms")]
    HandshakeTime(u64),
    /// The client did not renew its lease: nothing that it sent is executed any more.
    #[error("its lease is over, it was last renewed {0} ms ago")]
    LeaseOver(u64),
}

impl From<dst_wire::WireError> for Broken {
    fn from(error: dst_wire::WireError) -> Broken {
        Broken::Violation(error.into())
    }
}
