//! The clock of the timestamp option (RFC 7323): it ticks once a millisecond, from a random
//! beginning.

/// A connection's timestamp clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset: u32,
}

impl Clock {
    /// Returns a clock that is ahead by `offset`, so that it does not tell for how long the machine
    /// has been up.
    pub fn new(offset: u32) -> Clock {
        Clock { offset }
    }

    /// Returns the timestamp for a time in microseconds.
    pub fn at(self, now: u64) -> u32 {
        ((now / 1000) as u32).wrapping_add(self.offset)
    }
}

/// Returns whether a timestamp is older than another one of the same clock.
pub(crate) fn is_older(timestamp: u32, than: u32) -> bool {
    timestamp.wrapping_sub(than).cast_signed() < 0
}
