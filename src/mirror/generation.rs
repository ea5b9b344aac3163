//! The generations of a mirror's data.
//!
//! A generation is a random number. The mirror makes one anew whenever members go on without another
//! one, and at every forced assembly. Each member keeps the newest one and those before it, so two
//! members that were apart tell whether one of them only lacks what the other one has, or each has
//! writes that the other one lacks.

use dst_wire::uuid_text;
use std::fmt;

/// The number of generations before the current one that a device keeps. DRBD keeps 2; a member
/// that was away for longer is known by the generation at which it fell out
/// ([`crate::MemberState::OutOfDate`]).
pub const HISTORY_MAX: usize = 16;

/// The id of a generation: random, and never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u128);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid_text(&self.0.to_be_bytes()))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the data of one device relate to those of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Both have the same generation.
    Same,
    /// The device has an earlier generation of the other one's data.
    Behind,
    /// The other device has an earlier generation of this one's data.
    Ahead,
    /// Neither knows the other one's generation: both went on alone, or one was away for more
    /// than [`HISTORY_MAX`] generations.
    Diverged,
}

/// The current generation of a device's data, and those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generations {
    current: Generation,
    /// The newest first. At most [`HISTORY_MAX`].
    history: Vec<Generation>,
}

impl Generations {
    /// Returns a first generation.
    pub fn new(first: Generation) -> Generations {
        Generations { current: first, history: Vec::new() }
    }

    /// Returns generations that were kept, the newest of the earlier ones first. Of these,
    /// [`HISTORY_MAX`] are taken.
    pub fn from_kept(current: Generation, mut history: Vec<Generation>) -> Generations {
        history.truncate(HISTORY_MAX);
        Generations { current, history }
    }

    /// Begins a new generation.
    pub fn advance(&mut self, next: Generation) {
        self.history.insert(0, self.current);
        self.history.truncate(HISTORY_MAX);
        self.current = next;
    }

    /// Returns the current generation.
    pub fn current(&self) -> Generation {
        self.current
    }

    /// Returns the earlier generations, the newest first.
    pub fn history(&self) -> &[Generation] {
        &self.history
    }

    /// Returns how these data relate to the other ones.
    pub fn relation(&self, to: &Generations) -> Relation {
        let (is_behind, is_ahead) = (to.history.contains(&self.current), self.history.contains(&to.current));
        match (self.current == to.current, is_behind, is_ahead) {
            (true, ..) => Relation::Same,
            (_, true, false) => Relation::Behind,
            (_, false, true) => Relation::Ahead,
            // Each has the other one's in its history: no mirror writes that.
            (_, false, false) | (_, true, true) => Relation::Diverged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_that_went_on_alone_have_diverged() {
        let mut one = Generations::new(Generation(1));
        let mut other = one.clone();
        assert_eq!(one.relation(&other), Relation::Same);
        one.advance(Generation(2));
        assert_eq!((one.relation(&other), other.relation(&one)), (Relation::Ahead, Relation::Behind));
        other.advance(Generation(3));
        assert_eq!((one.relation(&other), other.relation(&one)), (Relation::Diverged, Relation::Diverged));
        assert_eq!(Generation(1).to_string(), "00000000-0000-0000-0000-000000000001");
    }

    #[test]
    fn the_history_is_bounded() {
        let old = Generations::new(Generation(1));
        let mut new = old.clone();
        for id in 2..2 + HISTORY_MAX as u128 {
            new.advance(Generation(id));
            assert_eq!(old.relation(&new), Relation::Behind);
        }
        new.advance(Generation(99));
        assert_eq!((old.relation(&new), new.history().len()), (Relation::Diverged, HISTORY_MAX));
        let long: Vec<Generation> = (2..99).map(Generation).collect();
        assert_eq!(Generations::from_kept(Generation(1), long).history().len(), HISTORY_MAX);
    }

    #[test]
    fn devices_that_are_each_behind_the_other_have_diverged() {
        let one = Generations::from_kept(Generation(1), vec![Generation(2)]);
        let other = Generations::from_kept(Generation(2), vec![Generation(1)]);
        assert_eq!(one.relation(&other), Relation::Diverged);
    }

    proptest! {
        /// Devices that go on in groups, against a tree of all generations that there were.
        #[test]
        fn a_device_is_behind_exactly_its_descendants(
            steps in proptest::collection::vec((0usize..4, 0usize..4), 0..HISTORY_MAX),
        ) {
            let mut devices = vec![Generations::new(Generation(1)); 4];
            let mut parents = vec![None, None];
            for (to, from) in steps {
                // `to` is brought up to date from `from`, and goes on alone.
                let parent = devices[from].current().0;
                let next = parents.len() as u128;
                parents.push(Some(parent));
                let mut data = devices[from].clone();
                data.advance(Generation(next));
                devices[to] = data;
            }
            let is_ancestor = |one: u128, mut other: u128| {
                while let Some(parent) = parents[other as usize] {
                    other = parent;
                    if other == one {
                        return true;
                    }
                }
                false
            };
            for one in &devices {
                for other in &devices {
                    let (a, b) = (one.current().0, other.current().0);
                    let expected = match () {
                        () if a == b => Relation::Same,
                        () if is_ancestor(a, b) => Relation::Behind,
                        () if is_ancestor(b, a) => Relation::Ahead,
                        () => Relation::Diverged,
                    };
                    prop_assert_eq!(one.relation(other), expected);
                }
            }
        }
    }
}
