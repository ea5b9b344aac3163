//! When a channel goes back to its own address, which is usable again.
//!
//! The channel closes its connection for that. It does so only while it has nothing outstanding, so
//! that no I/O is sent twice or waits for another one at the target. A channel that always has
//! something outstanding *pauses*: for a moment, it begins no more of what waits.

/// The longest time for which a channel pauses, µs. If what is outstanding takes longer, such as an
/// unmap of many blocks, other I/O does not wait for it.
const PAUSE_US: u64 = 50_000;

/// The time between two pauses, µs: at most 1 % of a channel's time is paused in vain.
const BETWEEN_US: u64 = 5_000_000;

/// How far a channel is on its way to its own address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Homing {
    /// The channel is where it should be.
    #[default]
    Home,
    /// The channel looks for a moment to leave.
    Away {
        /// The time of the next pause, µs.
        pause_us: u64,
    },
    /// The channel begins nothing.
    Pausing {
        /// The end of the pause, µs.
        until_us: u64,
    },
}

impl Homing {
    /// Takes whether there is a better address than the channel's.
    pub fn set(&mut self, is_better: bool, now_us: u64) {
        *self = match *self {
            _ if !is_better => Homing::Home,
            Homing::Home => Homing::Away { pause_us: now_us },
            away => away,
        };
    }

    /// Returns true if the channel is to leave now. `outstanding` is how many transactions it has
    /// outstanding; while `may_leave` is false, it neither leaves nor pauses.
    pub fn look(&mut self, outstanding: usize, may_leave: bool, now_us: u64) -> bool {
        match *self {
            Homing::Home => return false,
            _ if !may_leave => {}
            _ if outstanding == 0 => return true,
            Homing::Away { pause_us } if now_us < pause_us => return false,
            Homing::Pausing { until_us } if now_us < until_us => return false,
            Homing::Away { .. } => {
                *self = Homing::Pausing { until_us: now_us + PAUSE_US };
                return false;
            }
            Homing::Pausing { .. } => {}
        }
        *self = Homing::Away { pause_us: now_us + BETWEEN_US };
        false
    }

    /// Returns true while nothing that waits is to be begun. HOT.
    #[inline]
    pub fn is_pausing(self) -> bool {
        matches!(self, Homing::Pausing { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(now_us: u64) -> Homing {
        let mut homing = Homing::Home;
        homing.set(true, now_us);
        homing
    }

    #[test]
    fn it_leaves_as_soon_as_nothing_is_outstanding() {
        assert!(!Homing::Home.look(0, true, 0) && away(7).look(0, true, 7));
        let mut homing = away(7);
        assert!(!homing.look(1, true, 7) && homing.is_pausing());
        assert!(homing.look(0, true, 8), "all of it has ended");
        homing.set(false, 8);
        assert_eq!(homing, Homing::Home, "its own address is down again");
    }

    #[test]
    fn it_does_not_wait_for_what_takes_long() {
        let mut homing = away(0);
        let pauses: Vec<u64> = (0..2 * BETWEEN_US)
            .step_by(10_000)
            .filter(|&now| {
                assert!(!homing.look(1, true, now));
                homing.set(true, now);
                homing.is_pausing()
            })
            .collect();
        let begins = [0, BETWEEN_US + PAUSE_US];
        let expected = begins.iter().flat_map(|begin| (*begin..begin + PAUSE_US).step_by(10_000));
        assert_eq!(pauses, expected.collect::<Vec<_>>());
    }

    #[test]
    fn it_stays_while_it_may_not_leave() {
        let mut homing = away(0);
        assert!(!homing.look(1, true, 0) && homing.is_pausing());
        assert!(!homing.look(0, false, 1) && !homing.is_pausing());
        assert!(homing.look(0, true, 2));
    }
}
