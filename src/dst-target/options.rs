//! Target-wide limits and defaults.

/// Set by `dst_set_options` before the first listener is created; the pools are made then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Most connections at once, handshakes included. 1 to 65,536.
    pub max_connections: u32,
    /// Most connections at once that neither were let in nor wait to be; beyond it the oldest of them is closed. 1
    /// to 65,536.
    pub max_handshakes: u32,
    /// Most of them from one address, likewise. 1 to 65,536.
    pub max_handshakes_per_address: u32,
    /// Most bytes of data of the first frame. 512 to 4,096.
    pub max_handshake_bytes: u32,
    /// How long a handshake may take, ms. 100 to 60,000.
    pub handshake_timeout_ms: u32,
    /// Most connections at once of one host at one export, those that wait to be let in included. 1 to 65,536.
    pub max_connections_per_host: u32,
    /// Most sessions at once. 1 to 65,536.
    pub max_sessions: u32,
    /// How long a session without connections is remembered, ms. 1,000 to 3,600,000.
    pub session_timeout_ms: u32,
    /// Longest keep-alive time that a client gets, ms: how long others may have to wait until it is certain
    /// that a lost client's requests are over. 100 to 3,600,000.
    pub max_keep_alive_ms: u32,
    /// How long the deletion of an export waits for the backend before it resets the bdev, and again
    /// before it tells that the backend hangs, ms. 100 to 600,000.
    pub drain_timeout_ms: u32,
    /// Transactions granted to a connection. 1 to 4,096.
    pub queue_depth: u16,
    /// Most bytes of one request. 64 KiB to 1 MiB, a power of two.
    pub max_transfer: u32,
    /// Memory for data, MiB a core. 4 to 65,536.
    pub buffer_mib: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_connections: 4096,
            max_handshakes: 256,
            max_handshakes_per_address: 64,
            max_handshake_bytes: 4096,
            handshake_timeout_ms: 5000,
            max_connections_per_host: 1024,
            max_sessions: 1024,
            session_timeout_ms: 60_000,
            max_keep_alive_ms: 60_000,
            drain_timeout_ms: 5000,
            // As many as an NVMe/TCP queue of SPDK's target, twice: deep queues are what batches live on.
            queue_depth: 256,
            max_transfer: 1 << 20,
            buffer_mib: 64,
        }
    }
}
