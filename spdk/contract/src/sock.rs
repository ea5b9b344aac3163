//! Sockets in groups.

use std::rc::Rc;

/// The owner of a socket in a group.
pub trait SockReady {
    /// Called when the socket has something to receive, or its connection has ended. It is called
    /// inside `Group::poll`, in each poll until everything is received. It may drop its own
    /// `Member`, and others.
    fn readable(self: Rc<Self>);
}

/// The expected traffic of a socket. Sockets with little traffic have separate groups, so that
/// these become quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Occasional messages.
    Control,
    /// Requests.
    Data,
}
