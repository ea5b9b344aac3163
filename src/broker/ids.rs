//! The ids of connections, sessions and clients.

use dst_wire::Hello;

/// The number of a connection, unique in this target. A later connection has a higher number.
pub type ConnectionId = u64;

/// A session's id: 16 random bytes.
pub type SessionId = [u8; 16];

/// A client as limits and access rights count it: one host at one export. Limits on connections,
/// sessions and memory are limits for each `ClientId`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    /// The export's name.
    pub export: String,
    /// The host's name.
    pub host: String,
}

impl ClientId {
    /// Returns the client that a hello names.
    pub fn of(hello: &Hello) -> ClientId {
        ClientId { export: hello.export.clone(), host: hello.host.clone() }
    }
}

/// Returns a session's name in the log: the first four bytes of its id, in hexadecimal.
pub fn short(id: &SessionId) -> String {
    id[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
