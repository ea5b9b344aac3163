//! The socket of a connection: looked up for each event, so without hashing.

use dst_tcp::ConnectionId;

/// The indexes of sockets, by their connections.
#[derive(Debug, Default)]
pub struct ByConnection {
    /// By [`ConnectionId::index`]. The id is kept beside it, since the next connection with the same
    /// index is another one.
    sockets: Vec<Option<(ConnectionId, u32)>>,
}

impl ByConnection {
    /// Returns the index of a connection's socket.
    pub fn get(&self, connection: ConnectionId) -> Option<u32> {
        let (known, index) = (*self.sockets.get(connection.index())?)?;
        (known == connection).then_some(index)
    }

    /// Adds a connection. An earlier one with the same [`ConnectionId::index`] must have ended.
    pub fn insert(&mut self, connection: ConnectionId, index: u32) {
        if self.sockets.len() <= connection.index() {
            self.sockets.resize(connection.index() + 1, None);
        }
        self.sockets[connection.index()] = Some((connection, index));
    }

    /// Removes a connection, if it is known.
    pub fn remove(&mut self, connection: ConnectionId) {
        if self.get(connection).is_some() {
            self.sockets[connection.index()] = None;
        }
    }

    /// Removes all connections.
    pub fn clear(&mut self) {
        self.sockets.clear();
    }
}
