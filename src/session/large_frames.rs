//! Detection of a path that loses large packets.
//!
//! If a router on the path has a smaller MTU than the ends believe, and its ICMP messages are
//! filtered, TCP's handshake and small frames pass but large segments never do (RFC 2923, section
//! 2.1). Each connection is then admitted, gets stuck with its first large frame, and is given up
//! as silent, again and again.

/// The maximum length of a frame that fits the packets of every path, in bytes: the minimum MTU of
/// IPv6 (RFC 8200, section 5).
pub const SMALL: u32 = 1280;

/// The number of consecutive stuck connections from which the path is suspected. One or two may be
/// chance: the path went down just after the connection was made.
const SUSPECT: u32 = 3;

/// The times of a connection that tell whether data has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The time at which the connection was admitted, µs.
    pub admitted_us: u64,
    /// The time at which the client last heard from the target, µs.
    pub heard_us: u64,
    /// The keep-alive time, µs.
    pub keep_alive_us: u64,
}

impl Life {
    /// Returns true if the connection outlived its first frames. The client asks the target for a
    /// sign of life after a quarter of the keep-alive time; this is true if the target was heard
    /// that late.
    pub fn has_flowed(self) -> bool {
        self.heard_us.saturating_sub(self.admitted_us) >= self.keep_alive_us / 4
    }
}

/// What the loss of a connection says of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathNews {
    /// The path is suspected: this many consecutive connections got stuck.
    Suspect(u32),
    /// The path was suspected and is not any more.
    Cleared,
}

/// The evidence that a channel's successive connections give about their path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LargeFrames {
    /// The number of consecutive connections that got stuck.
    stuck: u32,
}

impl LargeFrames {
    /// Notes that a connection was lost at `now_us`. `has_large` is true if a frame of more than
    /// [`SMALL`] bytes was outstanding.
    pub fn lost(&mut self, life: Life, has_large: bool, now_us: u64) -> Option<PathNews> {
        let was_suspect = self.is_suspect();
        let silent_us = now_us.saturating_sub(life.heard_us);
        // Either end may be the first to give up the connection, a little before the keep-alive
        // time.
        let is_silence = silent_us >= life.keep_alive_us * 3 / 4;
        let is_stuck = has_large && is_silence && !life.has_flowed();
        self.stuck = if is_stuck { self.stuck.saturating_add(1) } else { 0 };
        if self.is_suspect() {
            return Some(PathNews::Suspect(self.stuck));
        }
        was_suspect.then_some(PathNews::Cleared)
    }

    /// Takes the state of a connection that is up. Returns true if this clears the path of
    /// suspicion.
    pub fn look(&mut self, life: Life) -> bool {
        if !self.is_suspect() || !life.has_flowed() {
            return false;
        }
        self.stuck = 0;
        true
    }

    /// Returns true if the path is suspected.
    pub fn is_suspect(self) -> bool {
        self.stuck >= SUSPECT
    }
}

/// The most paths that a channel remembers: as many as a target may have addresses.
const PATHS_MAX: usize = 16;

/// The evidence of one channel about each path that it has used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfEachPath<T> {
    /// The path that was used first is first.
    paths: Vec<(T, LargeFrames)>,
}

impl<T> Default for OfEachPath<T> {
    fn default() -> OfEachPath<T> {
        OfEachPath { paths: Vec::new() }
    }
}

impl<T: Clone + PartialEq> OfEachPath<T> {
    /// Returns the evidence about a path.
    pub fn of(&mut self, path: &T) -> &mut LargeFrames {
        let known = self.paths.iter().position(|(other, _)| other == path);
        let at = known.unwrap_or_else(|| {
            if self.paths.len() == PATHS_MAX {
                // The names of the target have come to mean other addresses.
                self.paths.remove(0);
            }
            self.paths.push((path.clone(), LargeFrames::default()));
            self.paths.len() - 1
        });
        &mut self.paths[at].1
    }

    /// Takes the state of a connection that is up. Returns true if this clears its path of suspicion.
    pub fn look(&mut self, path: &T, life: Life) -> bool {
        self.paths.iter_mut().any(|(other, frames)| other == path && frames.look(life))
    }

    /// Returns the paths that are suspected.
    pub fn suspects(&self) -> impl Iterator<Item = &T> {
        self.paths.iter().filter(|(_, frames)| frames.is_suspect()).map(|(path, _)| path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: u64 = 4_000_000;

    fn life(heard_us: u64) -> Life {
        Life { admitted_us: 0, heard_us, keep_alive_us: T }
    }

    #[test]
    fn three_connections_that_get_stuck_make_a_path_suspect() {
        let mut path = LargeFrames::default();
        let stuck = |path: &mut LargeFrames| path.lost(life(1000), true, T);
        assert_eq!(
            (stuck(&mut path), stuck(&mut path), stuck(&mut path), stuck(&mut path)),
            (None, None, Some(PathNews::Suspect(3)), Some(PathNews::Suspect(4)))
        );
        assert!(!path.look(life(1000)) && path.look(life(T / 4)) && !path.look(life(T)));
        assert_eq!(stuck(&mut path), None);
    }

    #[test]
    fn each_path_is_suspected_for_itself() {
        let mut paths = OfEachPath::default();
        for round in 1..=3 {
            assert_eq!(paths.of(&1).lost(life(1000), true, T).is_some(), round == 3);
            assert_eq!(paths.of(&2).lost(life(T), true, 2 * T), None);
        }
        assert_eq!(paths.suspects().collect::<Vec<_>>(), [&1]);
        assert!(!paths.look(&2, life(T)) && paths.look(&1, life(T)) && paths.suspects().count() == 0);
        (3..100).for_each(|other| assert!(!paths.of(&other).is_suspect()));
        assert_eq!(paths.paths.len(), PATHS_MAX);
    }

    #[test]
    fn other_losses_say_nothing_of_the_path() {
        for (heard_us, has_large, lost_us, why) in [
            (1000, false, T, "nothing large was to pass"),
            (T / 4, true, 2 * T, "the target was heard after what it was sent first"),
            (1000, true, T / 2, "it was closed, not silent"),
        ] {
            let mut path = LargeFrames::default();
            for _ in 0..10 {
                assert_eq!(path.lost(life(heard_us), has_large, lost_us), None, "{why}");
            }
        }
    }

    proptest! {
        /// Whoever goes by what is said alone knows at any time whether the path is suspected.
        #[test]
        fn it_takes_three_in_a_row(stuck in proptest::collection::vec(proptest::bool::weighted(0.7), 0..40)) {
            let mut path = LargeFrames::default();
            let (mut row, mut is_suspect) = (0, false);
            for is_stuck in stuck {
                row = if is_stuck { row + 1 } else { 0 };
                let said = path.lost(life(if is_stuck { 0 } else { T }), true, 2 * T);
                prop_assert_eq!(said == Some(PathNews::Suspect(row)), row >= 3);
                is_suspect = match said {
                    Some(PathNews::Suspect(_)) => true,
                    Some(PathNews::Cleared) => false,
                    None => is_suspect,
                };
                prop_assert_eq!(is_suspect, path.is_suspect());
            }
        }
    }
}
