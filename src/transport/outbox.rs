//! Control frames to be sent.

use dst_wire::Header;

/// A small queue of bytes: handshake messages, keep-alives, events.
///
/// Its frames are sent between those of transactions, never inside one. A peer can make it hold
/// only a bounded amount, since a keep-alive is answered at most once while the previous answer
/// still waits.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Creates an empty outbox with enough room that keep-alives do not allocate.
    pub fn new() -> Outbox {
        Outbox { bytes: Vec::with_capacity(256), sent: 0 }
    }

    /// Appends a frame; the header's `data_len` is set from `data`.
    pub fn push(&mut self, mut header: Header, data: &[u8]) {
        header.data_len = data.len() as u32;
        // Otherwise, a peer that never lets the outbox become empty would make it grow for ever.
        self.bytes.drain(..self.sent);
        self.sent = 0;
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(data);
    }

    /// Returns the bytes that wait to be sent.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    /// Records that `len` bytes of [`Outbox::pending`] were sent.
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
