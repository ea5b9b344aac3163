//! Target-wide limits and defaults.

/// The options of `dst_set_options`. They can be set before the first listener is created, which is
/// when the pools are allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The maximum number of connections, including handshakes. 1 to 65,536.
    pub max_connections: u32,
    /// The maximum number of connections that are neither admitted nor wait to be. Beyond it, the
    /// oldest of them is closed. 1 to 65,536.
    pub max_handshakes: u32,
    /// The same for the connections from one address. 1 to 65,536.
    pub max_handshakes_per_address: u32,
    /// The maximum length in bytes of the first frame's data. 512 to 4,096.
    pub max_handshake_bytes: u32,
    /// The maximum time of a handshake, ms. 100 to 60,000.
    pub handshake_timeout_ms: u32,
    /// The maximum number of connections of one host at one export, including those that wait to be
    /// admitted. 1 to 65,536.
    pub max_connections_per_host: u32,
    /// The maximum number of sessions. 1 to 65,536.
    pub max_sessions: u32,
    /// The time for which a session without connections is remembered, ms. 1,000 to 3,600,000.
    pub session_timeout_ms: u32,
    /// The longest keep-alive time that a client gets, ms. Other clients may have to wait this long
    /// until the requests of a lost client are certainly over. 100 to 3,600,000.
    pub max_keep_alive_ms: u32,
    /// The time for which the deletion of an export waits for the backend before the bdev is reset,
    /// and again before the caller is told that the backend hangs, ms. 100 to 600,000.
    pub drain_timeout_ms: u32,
    /// The number of transactions granted to a connection. 1 to 4,096.
    pub queue_depth: u16,
    /// The maximum length of a request in bytes. 64 KiB to 1 MiB, a power of two.
    pub max_transfer: u32,
    /// The memory for data on each core, MiB. 4 to 65,536.
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
            // Twice the depth of an NVMe/TCP queue of SPDK's target: deep queues make large
            // batches.
            queue_depth: 256,
            max_transfer: 1 << 20,
            buffer_mib: 64,
        }
    }
}
