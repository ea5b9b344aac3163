//! Whether a client takes what is sent to it.

use dst_session::silence::Silence;

/// Bytes that have to go for the time to begin anew, while more wait. Who takes a few now and then keeps the memory of
/// all that waits as well as one who takes nothing.
const TAKEN_MIN: usize = 64 << 10;

/// Watches how one connection's client takes what waits for it.
#[derive(Debug)]
pub struct Taking {
    silence: Silence,
    /// Bytes that went since the time began.
    taken: usize,
}

impl Taking {
    /// Begins the watch: to take next to nothing for `timeout_ms` is too long.
    pub fn new(timeout_ms: u32, now_us: u64) -> Taking {
        Taking { silence: Silence::new(timeout_ms, now_us), taken: 0 }
    }

    /// So many bytes went, and more wait. HOT.
    pub fn took(&mut self, bytes: usize, now_us: u64) {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken >= TAKEN_MIN {
            self.has_all(now_us);
        }
    }

    /// Nothing waits. HOT.
    pub fn has_all(&mut self, now_us: u64) {
        self.taken = 0;
        self.silence.heard(now_us);
    }

    /// For how long it has taken next to nothing, ms, if that is too long.
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
        let mut taking = Taking::new(3, 1000);
        taking.took(TAKEN_MIN - 1, 3000);
        assert_eq!((taking.is_too_long(3999), taking.is_too_long(4000)), (None, Some(3)));
        taking.took(1, 4000);
        assert_eq!((taking.is_too_long(6999), taking.is_too_long(7000)), (None, Some(3)));
        taking.took(TAKEN_MIN - 1, 6999);
        taking.has_all(6999);
        taking.took(TAKEN_MIN - 1, 7000);
        assert_eq!((taking.is_too_long(9998), taking.is_too_long(9999)), (None, Some(3)));
    }
}
