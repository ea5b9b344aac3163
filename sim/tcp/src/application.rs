//! What the user on each side of a connection sends, and expects to receive.

use crate::plan::Side;

/// Returns the byte at a position of a stream, such that a missing or misplaced byte shows.
pub fn byte(stream: u64, at: u64) -> u8 {
    (at.wrapping_add(stream << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The user on one side of a connection.
#[derive(Debug)]
pub struct Application {
    side: Side,
    /// The numbers of the outgoing and the incoming stream.
    streams: (u64, u64),
    sent: u64,
    received: u64,
    expected: u64,
    /// Whether the peer's end was received.
    ended: bool,
    /// Whether this side's end was sent.
    closed: bool,
    /// The time at which the user looks again at what has arrived.
    looks_at: u64,
    /// The first violation that this user found.
    pub violation: Option<String>,
}

impl Application {
    /// Returns the first (0) or second (1) side of a connection.
    pub fn new(connection: usize, host: usize, sides: &[Side; 2]) -> Application {
        let stream = |of: usize| (2 * connection + of) as u64;
        Application {
            side: sides[host].clone(),
            streams: (stream(host), stream(1 - host)),
            sent: 0,
            received: 0,
            expected: sides[1 - host].bytes,
            ended: false,
            closed: false,
            looks_at: 0,
            violation: None,
        }
    }

    /// Returns the next piece to be sent, of at most this many bytes.
    pub fn piece(&self, most: u64) -> Option<Vec<u8>> {
        let length = (self.side.bytes - self.sent).min(self.side.piece).min(most);
        let bytes = self.sent..self.sent + length;
        (length > 0).then(|| bytes.map(|at| byte(self.streams.0, at)).collect())
    }

    /// Notes that this many bytes of the piece were taken.
    pub fn took(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Returns whether everything was sent, so that this side's end is to be sent next.
    pub fn closes(&mut self) -> bool {
        let closes = self.sent == self.side.bytes && !self.closed;
        self.closed |= closes;
        closes
    }

    /// Returns how many pieces may be read now.
    pub fn looks(&mut self, now: u64) -> usize {
        if self.side.read_pause == 0 {
            return usize::MAX;
        }
        if now < self.looks_at {
            return 0;
        }
        self.looks_at = now + self.side.read_pause;
        self.side.reads
    }

    /// Returns when the user looks again.
    pub fn next(&self) -> Option<u64> {
        (self.side.read_pause > 0 && !self.ended).then_some(self.looks_at)
    }

    /// Checks data that was received.
    pub fn receive(&mut self, bytes: &[u8]) {
        for found in bytes {
            if *found != byte(self.streams.1, self.received) && self.violation.is_none() {
                self.violation = Some(format!("byte {} is wrong", self.received));
            }
            self.received += 1;
        }
        if self.received > self.expected {
            self.violation.get_or_insert(format!("{} bytes instead of {}", self.received, self.expected));
        }
    }

    /// Notes the end of the peer's data.
    pub fn end(&mut self) {
        self.ended = true;
        if self.received != self.expected {
            self.violation
                .get_or_insert(format!("the end after {} bytes instead of {}", self.received, self.expected));
        }
    }

    /// Returns whether everything was sent and received.
    pub fn is_done(&self) -> bool {
        self.ended && self.closed
    }

    /// Returns the number of bytes received so far.
    pub fn received(&self) -> u64 {
        self.received
    }
}
