//! The limits that the broker enforces.

/// The limits of what the broker grants. The ranges are those of the target's options of the same
/// names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of connections, including handshakes.
    pub max_connections: u32,
    /// The maximum number of queues of all sessions together.
    pub max_queues: u32,
    /// The maximum number of handshakes.
    pub max_handshakes: u32,
    /// The maximum number of handshakes from one address.
    pub max_handshakes_per_address: u32,
    /// The maximum number of connections of one host at one export.
    pub max_connections_per_host: u32,
    /// The maximum number of sessions.
    pub max_sessions: u32,
    /// How long a session without connections is remembered, ms.
    pub session_timeout_ms: u32,
    /// The longest keep-alive time that a client gets, ms.
    pub max_keep_alive_ms: u32,
    /// How long the deletion of an export, or the removal of its bdev, waits for the backend before
    /// each further step, ms.
    pub drain_timeout_ms: u32,
    /// The number of credits granted to a queue.
    pub queue_depth: u16,
    /// The maximum number of bytes of one request.
    pub max_transfer: u32,
}
