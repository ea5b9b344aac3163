//! The limits that the broker enforces.

/// What the broker grants at most. The ranges are those of the target's options of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once, handshakes included.
    pub max_connections: u32,
    /// Most queues of all sessions together.
    pub max_queues: u32,
    /// Most handshakes at once.
    pub max_handshakes: u32,
    /// Most handshakes at once from one address.
    pub max_handshakes_per_address: u32,
    /// Most connections at once of one host at one export.
    pub max_connections_per_host: u32,
    /// Most sessions at once.
    pub max_sessions: u32,
    /// How long a session without connections is remembered, ms.
    pub session_timeout_ms: u32,
    /// The longest keep-alive time that a client gets, ms.
    pub max_keep_alive_ms: u32,
    /// How long the deletion of an export, or of its bdev, waits for the backend before each further
    /// step, ms.
    pub drain_timeout_ms: u32,
    /// Transactions granted to a connection.
    pub queue_depth: u16,
    /// Most bytes of one request.
    pub max_transfer: u32,
}
