//! Segments that are too long for the path and vanish without a word (RFC 4821, RFC 8899).

use crate::mutation::{Mutation, is_on};
use crate::seq::Seq;

/// The sizes that are tried if longer segments do not get through: the payload with an MTU of 1,500
/// in a tunnel, and RFC 4821's suggestions (7.7), less the headers.
const SIZES: [u64; 3] = [1_360, 984, 472];

/// Timeouts in a row after which the segment's size is suspected.
const SUSPICIOUS: u32 = 2;

/// The pause before the full size is tried again: at first, and after some attempts (RFC 8899,
/// 5.1.1).
const FIRST_PAUSE: u64 = 1_000_000;
const LONGEST_PAUSE: u64 = 600_000_000;

/// A path whose MTU is less than both ends believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Nothing indicates that.
    Full,
    /// Segments are smaller than `full`, which is tried again at a time.
    Reduced { full: u64, pause: u64, try_at: u64 },
    /// One segment of the full size is on its way.
    Trying { full: u64, pause: u64, segment: (Seq, Seq) },
}

impl Path {
    /// Takes a timeout, the nth in a row, of a segment of this size. Returns the MSS from now on.
    pub fn on_timeout(&mut self, nth: u32, size: u64, mss: u64, now: u64) -> u64 {
        let smaller = SIZES.into_iter().find(|smaller| *smaller < size.min(mss));
        let Some(smaller) = smaller.filter(|_| nth >= SUSPICIOUS && !is_on(Mutation::NoBlackHoleDetection))
        else {
            return mss;
        };
        let full = match *self {
            Path::Full => mss,
            Path::Reduced { full, .. } | Path::Trying { full, .. } => full,
        };
        *self = Path::Reduced { full, pause: FIRST_PAUSE, try_at: now + FIRST_PAUSE };
        smaller
    }

    /// Takes a router's word that segments may have at most `most` bytes of data. Returns the MSS
    /// from now on.
    pub fn on_too_big(&mut self, most: u64, mss: u64, now: u64) -> u64 {
        // Nobody needs less than the smallest size, but an attacker (RFC 5927, 7).
        let most = most.max(SIZES[SIZES.len() - 1]);
        if most >= mss {
            return mss;
        }
        let full = match *self {
            Path::Full => mss,
            Path::Reduced { full, .. } | Path::Trying { full, .. } => full,
        };
        // RFC 8201, 4: not before ten minutes.
        *self = Path::Reduced { full, pause: LONGEST_PAUSE, try_at: now + LONGEST_PAUSE };
        most
    }

    /// Returns the size of the next segment, if it is time to try the full one.
    pub fn try_full(&self, now: u64) -> Option<u64> {
        match *self {
            Path::Reduced { full, try_at, .. } if now >= try_at => Some(full),
            _ => None,
        }
    }

    /// Notes that a segment of the full size was sent.
    pub fn tried(&mut self, segment: (Seq, Seq)) {
        if let Path::Reduced { full, pause, .. } = *self {
            *self = Path::Trying { full, pause, segment };
        }
    }

    /// Returns the full size, if it is what this segment tries.
    pub fn trial(&self, segment: (Seq, Seq)) -> Option<u64> {
        match *self {
            Path::Trying { full, segment: tried, .. } if tried == segment => Some(full),
            _ => None,
        }
    }

    /// Takes a segment that has arrived as it was sent first. Returns the MSS, if it was the one of
    /// the full size.
    pub fn arrived(&mut self, segment: (Seq, Seq)) -> Option<u64> {
        let full = self.trial(segment)?;
        *self = Path::Full;
        Some(full)
    }

    /// Takes the position up to which all was acknowledged: what was tried in full had to be sent
    /// in parts.
    pub fn acknowledged(&mut self, una: Seq, now: u64) {
        if let Path::Trying { full, pause, segment } = *self
            && una >= segment.1
        {
            let pause = (2 * pause).min(LONGEST_PAUSE);
            *self = Path::Reduced { full, pause, try_at: now + pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_down_step_by_step_and_up_at_once() {
        let (mut path, at) = (Path::Full, Seq::initial(0));
        assert_eq!(path.on_timeout(1, 8960, 8960, 0), 8960);
        assert_eq!(path.on_timeout(2, 8960, 8960, 0), 1360);
        assert_eq!(path.on_timeout(3, 1360, 1360, 0), 984);
        assert_eq!(path.on_timeout(2, 100, 984, 0), 984, "short segments do not vanish for their size");
        assert_eq!(path.try_full(999_999), None);
        assert_eq!(path.try_full(1_000_000), Some(8960));
        path.tried((at, at + 8960));
        path.acknowledged(at + 8960, 1_000_000);
        assert_eq!(path.try_full(2_999_999), None, "it failed, and the pause doubles");
        assert_eq!(path.try_full(3_000_000), Some(8960));
        path.tried((at, at + 8960));
        assert_eq!(path.arrived((at, at + 984)), None);
        assert_eq!(path.arrived((at, at + 8960)), Some(8960));
        assert_eq!(path, Path::Full);
    }
}
