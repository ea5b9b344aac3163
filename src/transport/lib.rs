//! Moves frames over an SPDK socket in batches: one system call moves as many frames as are there.
//!
//! Both sides use this crate: [`Receiver`] for incoming frames, [`Outbox`] for the few control
//! frames that go out between requests and answers, and [`Stream`] for the bytes of both, encrypted
//! or not. [`read_keys`] reads the keys.

#![forbid(unsafe_code)]

mod batch;
mod key;
mod outbox;
mod receiver;
mod records;
mod stream;
mod workers;

pub use key::{KeyError, read_keys};
pub use outbox::Outbox;
pub use receiver::{Buffer, Flow, Frames, Here, Pumped, RECEIVE_BUFFER, Receiver};
pub use stream::Stream;
pub use workers::{set_workers, workers};

use thiserror::Error;

/// The reason why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    Socket(spdk::Errno),
    /// The peer violated the protocol.
    #[error("protocol violation: {0}")]
    Violation(#[from] dst_session::Violation),
    /// A record is not as the peer sent it.
    #[error("not secure: {0}")]
    Record(#[from] dst_security::RecordError),
    /// Nothing was received for the keep-alive time.
    #[error("nothing heard for {0} ms")]
    Silent(u64),
    /// A transaction was not answered before its deadline.
    #[error("a transaction was not answered for {0} ms")]
    Unanswered(u64),
    /// The user has given the target other addresses.
    #[error("the target has other addresses now")]
    Repointed,
    /// The channel goes back to the address that is its own, with nothing outstanding.
    #[error("its own address can be used again")]
    Homing,
    /// The session was given up.
    #[error("the session is over")]
    SessionOver,
    /// The process stops, and does not wait for its backends any more.
    #[error("the application stops and waits no longer")]
    Stopping,
    /// The target stops in order, and has said what it has not executed.
    #[error("the target stops; what it has not answered was not executed")]
    Goodbye,
    /// A reset needs a credit, but the requests that it is to end have all of them.
    #[error("a reset came while all its requests are outstanding")]
    ResetWaits,
    /// For the keep-alive time, the peer received nothing of what waits for it.
    #[error("the peer received nothing for {0} ms")]
    NotTaking(u64),
    /// The handshake was not complete within its time limit.
    #[error("it was not let in within {0} ms")]
    HandshakeTime(u64),
    /// The client did not renew its lease: nothing more that it sent is executed.
    #[error("its lease is over, it was last renewed {0} ms ago")]
    LeaseOver(u64),
}

impl From<dst_wire::WireError> for Broken {
    fn from(error: dst_wire::WireError) -> Broken {
        Broken::Violation(error.into())
    }
}
