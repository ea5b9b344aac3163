//! What the world consists of: plain data, which knows nothing of the world around it.

pub mod net;
pub mod process;
pub mod store;

/// What was seen that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The label of what is broken.
    pub property: &'static str,
    /// What happened.
    pub text: String,
}

/// What happens at a moment.
pub(crate) enum Event {
    /// Bytes may have reached a socket.
    Deliver(u64),
    /// An attempt to connect reaches its listener.
    Connect(u64),
    /// A store executes an operation.
    Execute(u64),
    /// A store has finished an operation.
    Done(u64),
    /// The driver asked to be told.
    Timer(u64),
}
