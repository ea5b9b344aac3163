//! What the world consists of: plain data that knows nothing of the world around it.

pub mod net;
pub mod process;
pub mod store;

/// A violation: something that must never happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The label of the property that is violated.
    pub property: &'static str,
    /// What happened.
    pub text: String,
}

/// Something that happens at a given time.
pub(crate) enum Event {
    /// Bytes may have arrived at a socket.
    Deliver(u64),
    /// An attempt to connect reaches its listener.
    Connect(u64),
    /// A store executes an operation.
    Execute(u64),
    /// A store completes an operation.
    Done(u64),
    /// A timer of the driver expires.
    Timer(u64),
}
