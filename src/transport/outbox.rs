//! Control frames on their way out.

use dst_wire::Header;

/// A small queue of bytes: handshake messages, keep-alives, events.
///
/// It is sent between frames of the transactions, never inside one. What a peer can make it hold is
/// bounded: a keep-alive is answered once while the answer before it still waits.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// An empty one, with room so that keep-alives do not allocate.
    pub fn new() -> Outbox {
        Outbox { bytes: Vec::with_capacity(256), sent: 0 }
    }

    /// Appends a frame; the header's `data_len` is set from `data`.
    pub fn push(&mut self, mut header: Header, data: &[u8]) {
        header.data_len = data.len() as u32;
        // Otherwise a peer that never quite lets it get empty would make it grow for ever.
        self.bytes.drain(..self.sent);
        self.sent = 0;
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(data);
    }

    /// What waits to be sent.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    /// Notes that `len` bytes of [`Outbox::pending`] were sent.
    pub fn sent(&mut self, len: usize) {
        self.sent += len;
        assert!(self.sent <= self.bytes.len(), "more was sent than there was");
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_wire::{HEADER_LEN, Kind};

    #[test]
    fn what_was_sent_takes_no_room() {
        let mut outbox = Outbox::new();
        outbox.push(Header::new(Kind::KeepAliveAck), &[]);
        for _ in 0..10_000 {
            outbox.push(Header::new(Kind::KeepAliveAck), &[]);
            outbox.sent(HEADER_LEN);
            assert_eq!(outbox.pending().len(), HEADER_LEN);
        }
        assert!(outbox.bytes.capacity() <= 256, "{}", outbox.bytes.capacity());
    }
}
