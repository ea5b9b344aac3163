//! The states of a connection (RFC 9293, 3.3.2).

use crate::event::ListenerId;

/// The state of a connection. Times are microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A SYN was sent.
    SynSent,
    /// A SYN was received and one sent. `listener`: whose connection it will be; none if both sides
    /// have connected at once.
    SynReceived {
        /// Whose connection it will be.
        listener: Option<ListenerId>,
    },
    /// Data flows.
    Established,
    /// The user has closed, and the peer has not acknowledged that.
    FinWait1,
    /// The peer has acknowledged that the user closed, and has not closed itself.
    FinWait2 {
        /// When the peer's time for it is up, if the user does not wait for it.
        until: Option<u64>,
    },
    /// The peer has closed.
    CloseWait,
    /// Both have closed, the peer has not acknowledged ours.
    Closing,
    /// The peer has closed first, then the user; the peer has not acknowledged that.
    LastAck,
    /// Both have closed; what may still be in the network is recognised.
    TimeWait {
        /// When the connection is forgotten.
        until: u64,
    },
    /// It has ended.
    Closed,
}

impl State {
    /// Returns whether the peer's SYN was received.
    pub fn is_synchronized(self) -> bool {
        !matches!(self, State::SynSent | State::SynReceived { .. } | State::Closed)
    }

    /// Returns whether data of the peer may still come.
    pub fn may_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2 { .. })
    }

    /// Returns whether the user may still send.
    pub fn may_send(self) -> bool {
        matches!(self, State::SynSent | State::SynReceived { .. } | State::Established | State::CloseWait)
    }
}
