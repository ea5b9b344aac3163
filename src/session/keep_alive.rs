//! Signs of life.

/// Watches one connection's silence.
///
/// The client shows a sign of life when it has sent nothing for a third of the time-out, so that two in a
/// row may be late. The target only answers; its side of the watch never asks to send.
#[derive(Debug, Clone)]
pub struct KeepAlive {
    timeout_us: u64,
    heard_us: u64,
    sent_us: u64,
}

/// What the silence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A keep-alive should be sent.
    Send,
    /// The peer was silent for too long: the connection is to be given up.
    Dead,
}

impl KeepAlive {
    /// Begins the watch.
    pub fn new(timeout_ms: u32, now_us: u64) -> KeepAlive {
        KeepAlive { timeout_us: u64::from(timeout_ms) * 1000, heard_us: now_us, sent_us: now_us }
    }

    /// Bytes came from the peer.
    pub fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
    }

    /// Bytes went to the peer.
    pub fn sent(&mut self, now_us: u64) {
        self.sent_us = now_us;
    }

    /// When the peer was last heard.
    pub fn heard_us(&self) -> u64 {
        self.heard_us
    }

    /// What is due now.
    pub fn due(&self, now_us: u64) -> Due {
        if now_us.saturating_sub(self.heard_us) >= self.timeout_us {
            Due::Dead
        } else if now_us.saturating_sub(self.sent_us) >= self.timeout_us / 3 {
            Due::Send
        } else {
            Due::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_asks_first_and_kills_then() {
        let mut watch = KeepAlive::new(3, 1000);
        assert_eq!(watch.due(1999), Due::Nothing);
        assert_eq!(watch.due(2000), Due::Send);
        watch.sent(2000);
        assert_eq!(watch.due(2999), Due::Nothing);
        assert_eq!(watch.due(4000), Due::Dead);
        watch.heard(3999);
        assert_eq!(watch.due(4000), Due::Send);
    }
}
