//! Sequence numbers.
//!
//! Inside the crate a sequence number does not wrap: it has 64 bits, of which a segment carries the
//! lower 32. Comparisons and differences are then those of plain integers, and the arithmetic
//! modulo 2³² of RFC 9293, 3.4, happens in one place, [`Seq::near`].

use std::ops::{Add, AddAssign, Sub};

/// A position in one direction of a connection's sequence space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Returns the position of an initial sequence number.
    ///
    /// Positions begin above 2³², so that one 2³¹ further down, which a segment can name, exists.
    pub const fn initial(wire: u32) -> Seq {
        Seq((1 << 32) | wire as u64)
    }

    /// Returns the position nearest to this one that a segment writes as `wire`: less than 2³¹
    /// above, or at most 2³¹ below.
    #[must_use]
    pub const fn near(self, wire: u32) -> Seq {
        let distance = wire.wrapping_sub(self.0 as u32).cast_signed();
        Seq(self.0.wrapping_add_signed(distance as i64))
    }

    /// Returns the number that a segment carries for this position.
    pub const fn wire(self) -> u32 {
        self.0 as u32
    }

    /// Returns how far this position is above `other`; 0 if it is below.
    pub const fn above(self, other: Seq) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl Add<u64> for Seq {
    type Output = Seq;

    fn add(self, bytes: u64) -> Seq {
        Seq(self.0 + bytes)
    }
}

impl AddAssign<u64> for Seq {
    fn add_assign(&mut self, bytes: u64) {
        self.0 += bytes;
    }
}

impl Sub<u64> for Seq {
    type Output = Seq;

    fn sub(self, bytes: u64) -> Seq {
        Seq(self.0 - bytes)
    }
}

impl Sub for Seq {
    type Output = u64;

    /// Returns the distance. `other` must not be above.
    fn sub(self, other: Seq) -> u64 {
        self.0 - other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crosses_the_wrap_in_both_directions() {
        let high = Seq::initial(u32::MAX - 1);
        let low = high.near(3);
        assert_eq!(low - high, 5);
        assert_eq!(low.wire(), 3);
        assert_eq!(low.near(u32::MAX - 1), high);
    }

    #[test]
    fn half_the_space_lies_below() {
        let at = Seq::initial(0);
        assert_eq!(at.near(1 << 31), at - (1 << 31));
        assert_eq!(at.near((1 << 31) - 1), at + ((1 << 31) - 1));
    }

    #[test]
    fn goes_round_many_times() {
        let mut at = Seq::initial(7);
        for _ in 0..10 {
            let next = at.near(at.wire().wrapping_add(0x7fff_ffff));
            assert_eq!(next - at, 0x7fff_ffff);
            at = next;
        }
    }
}
