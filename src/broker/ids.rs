//! The names of connections, sessions and their owners.

use dst_wire::Hello;

/// The number of a connection, unique in this target. A later connection has a higher number.
pub type ConnectionId = u64;

/// A session's id: 16 random bytes.
pub type SessionId = [u8; 16];

/// An owner: one host at one export. Limits on connections, sessions and memory count by owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The export's name.
    pub export: String,
    /// The host's name.
    pub host: String,
}

impl Owner {
    /// Returns the owner that a hello names.
    pub fn of(hello: &Hello) -> Owner {
        Owner { export: hello.export.clone(), host: hello.host.clone() }
    }
}

/// Returns a session's name in the log: the first four bytes of its id, in hexadecimal.
pub fn short(id: &SessionId) -> String {
    id[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
