//! Whether a client receives what is sent to it.

use dst_session::silence::Silence;

/// The number of bytes that have to be sent for the time to begin anew, while more wait. A client
/// that receives only a few now and then keeps the memory of all that waits, as one that receives
/// nothing does.
const SENT_MIN: usize = 64 << 10;

/// Watches whether one connection's client receives what waits for it.
#[derive(Debug)]
pub struct SendProgress {
    silence: Silence,
    /// The number of bytes sent since the time began.
    sent: usize,
}

impl SendProgress {
    /// Begins the watch. A client that receives next to nothing for `timeout_ms` has taken too
    /// long.
    pub fn new(timeout_ms: u32, now_us: u64) -> SendProgress {
        SendProgress { silence: Silence::new(timeout_ms, now_us), sent: 0 }
    }

    /// Notes that `bytes` were sent and that more wait. HOT.
    pub fn sent(&mut self, bytes: usize, now_us: u64) {
        self.sent = self.sent.saturating_add(bytes);
        if self.sent >= SENT_MIN {
            self.all_sent(now_us);
        }
    }

    /// Notes that nothing waits. HOT.
    pub fn all_sent(&mut self, now_us: u64) {
        self.sent = 0;
        self.silence.heard(now_us);
    }

    /// Returns for how long the client has received next to nothing, in ms, if that is too long.
    pub fn is_too_long(&self, now_us: u64) -> Option<u64> {
        let since_ms = now_us.saturating_sub(self.silence.heard_us()) / 1000;
        self.silence.is_too_long(now_us).then_some(since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_now_and_then_is_as_good_as_nothing() {
        let mut progress = SendProgress::new(3, 1000);
        progress.sent(SENT_MIN - 1, 3000);
        assert_eq!((progress.is_too_long(3999), progress.is_too_long(4000)), (None, Some(3)));
        progress.sent(1, 4000);
        assert_eq!((progress.is_too_long(6999), progress.is_too_long(7000)), (None, Some(3)));
        progress.sent(SENT_MIN - 1, 6999);
        progress.all_sent(6999);
        progress.sent(SENT_MIN - 1, 7000);
        assert_eq!((progress.is_too_long(9998), progress.is_too_long(9999)), (None, Some(3)));
    }
}
