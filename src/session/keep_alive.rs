//! Signs of life.

/// Watches one connection's silence.
///
/// The client shows a sign of life when it has sent nothing for a third of the time-out, and asks for one
/// when it has heard nothing for as long (a target whose backend hangs answers nothing else), so that two
/// in a row may be late. The target answers; it speaks unasked only while it can't read.
#[derive(Debug, Clone)]
pub struct KeepAlive {
    timeout_us: u64,
    heard_us: u64,
    sent_us: u64,
    asked_us: u64,
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
        KeepAlive {
            timeout_us: u64::from(timeout_ms) * 1000,
            heard_us: now_us,
            sent_us: now_us,
            asked_us: now_us,
        }
    }

    /// Bytes came from the peer.
    pub fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
    }

    /// Bytes went to the peer.
    pub fn sent(&mut self, now_us: u64) {
        self.sent_us = now_us;
    }

    /// A keep-alive goes to the peer.
    pub fn asked(&mut self, now_us: u64) {
        self.sent_us = now_us;
        self.asked_us = now_us;
    }

    /// When the peer was last heard.
    pub fn heard_us(&self) -> u64 {
        self.heard_us
    }

    /// What is due now.
    pub fn due(&self, now_us: u64) -> Due {
        let third = self.timeout_us / 3;
        let silent = |since_us: u64| now_us.saturating_sub(since_us);
        if silent(self.heard_us) >= self.timeout_us {
            Due::Dead
        } else if silent(self.sent_us) >= third || silent(self.heard_us.max(self.asked_us)) >= third {
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
        watch.asked(2000);
        assert_eq!(watch.due(2999), Due::Nothing);
        assert_eq!(watch.due(4000), Due::Dead);
        watch.heard(3999);
        assert_eq!(watch.due(4000), Due::Send);
    }

    #[test]
    fn a_peer_that_is_sent_to_and_says_nothing_is_asked() {
        let mut watch = KeepAlive::new(3, 0);
        watch.sent(900);
        assert_eq!(watch.due(999), Due::Nothing);
        watch.sent(1000);
        assert_eq!(watch.due(1000), Due::Send);
        watch.asked(1000);
        watch.sent(1900);
        assert_eq!(watch.due(1999), Due::Nothing);
        assert_eq!(watch.due(2000), Due::Send);
    }
}
