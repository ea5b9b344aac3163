//! Sockets in groups.

use std::rc::Rc;

/// The owner of a socket in a group.
pub trait SockReady {
    /// The socket has something to receive, or its connection ended. Called inside `Group::poll`, at each
    /// one until all is received. It may drop its own `Member`, and others.
    fn readable(self: Rc<Self>);
}

/// How much is to come through a socket. Those of which little is are not with the others, so that their groups get quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// A word now and then.
    Little,
    /// Requests.
    Much,
}
