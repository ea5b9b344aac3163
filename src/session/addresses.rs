//! The order in which a client tries the addresses of its target, and the race between them.
//!
//! The addresses are tried side by side, as RFC 8305 has it: each a little after the one before,
//! and the first that connects is asked for admission. Only connecting is raced. Asking is not,
//! because each question takes a queue over, and costs the target a key agreement.

use std::collections::VecDeque;

/// The time between the beginnings of two attempts, µs: RFC 8305, section 5, says 100 ms at least,
/// so that a slow handshake of TCP does not set off many.
pub const STAGGER_US: u64 = 100_000;

/// A target's addresses, with what is known of each.
///
/// Attempts come in *rounds*. A round ends when the target has admitted the client, or when each
/// address was tried once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses<T> {
    /// As the user gave them, each once.
    all: Vec<T>,
    /// The address at which the client was admitted last.
    worked: Option<T>,
    /// Addresses that connected and did not admit the client, since it was admitted there last; the
    /// one that did so longest ago first.
    put_off: Vec<T>,
    /// Not tried yet in this round.
    untried: Vec<T>,
}

impl<T: Clone + PartialEq> Addresses<T> {
    /// Returns what is known of new addresses: nothing. Addresses that come twice are tried once.
    pub fn new(all: impl IntoIterator<Item = T>) -> Addresses<T> {
        let mut addresses =
            Addresses { all: Vec::new(), worked: None, put_off: Vec::new(), untried: Vec::new() };
        addresses.replace(all);
        addresses
    }

    /// Replaces the addresses. What is known of those that stay is kept. A new round begins.
    pub fn replace(&mut self, all: impl IntoIterator<Item = T>) {
        self.all.clear();
        for address in all {
            if !self.all.contains(&address) {
                self.all.push(address);
            }
        }
        self.put_off.retain(|address| self.all.contains(address));
        self.worked.take_if(|address| !self.all.contains(address));
        self.begin_round();
    }

    fn begin_round(&mut self) {
        let is_put_off = |address: &&T| self.put_off.contains(address);
        let worked = self.worked.iter().filter(|address| !is_put_off(address));
        let others =
            self.all.iter().filter(|address| !is_put_off(address) && self.worked.as_ref() != Some(address));
        self.untried = worked.chain(others).chain(&self.put_off).cloned().collect();
    }

    /// Returns whether the next race begins a round.
    pub fn is_round_over(&self) -> bool {
        self.untried.is_empty()
    }

    /// Returns the addresses that are raced next, the first one first: those that are not tried yet
    /// in this round, or all of the next round. Empty only if there is no address.
    pub fn next_race(&mut self) -> Vec<T> {
        if self.untried.is_empty() {
            self.begin_round();
        }
        self.untried.clone()
    }

    /// The client was admitted at this address.
    pub fn admitted(&mut self, address: &T) {
        if self.all.contains(address) {
            self.put_off.retain(|other| other != address);
            self.worked = Some(address.clone());
        }
        self.untried.clear();
    }

    /// This address has connected and has not admitted the client: it is silent, or said no. It
    /// comes last next time. Returns whether the round is over.
    pub fn put_off(&mut self, address: &T) -> bool {
        self.untried.retain(|other| other != address);
        if self.all.contains(address) {
            self.put_off.retain(|other| other != address);
            self.put_off.push(address.clone());
        }
        self.untried.is_empty()
    }

    /// None of the addresses of the last race has connected. The round is over.
    pub fn unreached(&mut self) {
        self.untried.clear();
    }

    /// Returns the address at which the client was admitted last, or the first one before that.
    pub fn current(&self) -> Option<&T> {
        self.worked.as_ref().or_else(|| self.all.first())
    }

    /// Returns all addresses, in the order given.
    pub fn all(&self) -> &[T] {
        &self.all
    }
}

/// What one address does in a race.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Race<T> {
    /// Not begun yet, the next one first.
    waiting: VecDeque<T>,
    /// How many attempts are under way.
    running: usize,
    /// When the next attempt begins if none fails before.
    next_us: u64,
    /// When the last attempt that has begun has had its time.
    over_us: u64,
    /// How long an attempt may take, µs.
    limit_us: u64,
}

impl<T> Race<T> {
    /// Begins a race of these addresses at `now_us`. Each has `limit_us` to connect, and more if
    /// others begin after it.
    pub fn new(addresses: impl IntoIterator<Item = T>, limit_us: u64, now_us: u64) -> Race<T> {
        Race {
            waiting: addresses.into_iter().collect(),
            running: 0,
            next_us: now_us,
            over_us: now_us,
            limit_us,
        }
    }

    /// Returns the address to which the next attempt is to begin now, if one is. To be called until
    /// there is none.
    pub fn next_start(&mut self, now_us: u64) -> Option<T> {
        if now_us < self.next_us {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running += 1;
        self.next_us = now_us + STAGGER_US;
        self.over_us = now_us + self.limit_us;
        Some(next)
    }

    /// An attempt has failed: the next one need not wait.
    pub fn failed(&mut self, now_us: u64) {
        self.running = self.running.saturating_sub(1);
        self.next_us = now_us;
    }

    /// Returns whether none will connect any more: all have failed, or those that have not have had
    /// their time.
    pub fn is_lost(&self, now_us: u64) -> bool {
        self.waiting.is_empty() && (self.running == 0 || now_us >= self.over_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_address_that_worked_last_comes_first_and_the_silent_one_last() {
        let mut addresses = Addresses::new([1, 2, 3, 2]);
        assert_eq!((addresses.next_race(), addresses.current()), (vec![1, 2, 3], Some(&1)));
        assert!(!addresses.put_off(&1));
        assert_eq!(addresses.next_race(), [2, 3], "the same round goes on without it");
        addresses.admitted(&3);
        assert_eq!((addresses.next_race(), addresses.current()), (vec![3, 2, 1], Some(&3)));
        assert!(!addresses.put_off(&3));
        assert_eq!(addresses.next_race(), [2, 1]);
        addresses.unreached();
        assert_eq!(addresses.next_race(), [2, 1, 3], "the one that was silent longest ago is first of those");
        addresses.admitted(&1);
        assert_eq!(addresses.next_race(), [1, 2, 3]);
    }

    #[test]
    fn a_round_is_over_when_each_was_asked() {
        let mut addresses = Addresses::new([1, 2]);
        addresses.next_race();
        assert!(!addresses.put_off(&1) && addresses.put_off(&2) && addresses.is_round_over());
        assert_eq!(addresses.next_race(), [1, 2]);
    }

    #[test]
    fn what_is_known_of_an_address_that_stays_is_kept() {
        let mut addresses = Addresses::new([1, 2, 3]);
        addresses.admitted(&2);
        addresses.put_off(&1);
        addresses.replace([4, 1, 2]);
        assert_eq!(addresses.next_race(), [2, 4, 1]);
        addresses.replace([5]);
        assert_eq!((addresses.next_race(), addresses.current()), (vec![5], Some(&5)));
        addresses.admitted(&2);
        assert_eq!(addresses.current(), Some(&5), "it was replaced while it was asked");
    }

    /// Returns what begins when, if nothing connects and `failing` fail at once.
    fn starts(count: u32, failing: u32, until_us: u64) -> Vec<(u64, u32)> {
        let mut race = Race::new(0..count, 2_000_000, 0);
        let mut seen = Vec::new();
        for now in (0..=until_us).step_by(10_000) {
            while let Some(next) = race.next_start(now) {
                seen.push((now, next));
                if next < failing {
                    race.failed(now);
                }
            }
        }
        seen
    }

    #[test]
    fn dead_addresses_cost_a_good_one_a_moment_each() {
        let silent = starts(7, 0, 1_000_000);
        assert_eq!(silent, (0..7).map(|i| (u64::from(i) * STAGGER_US, i)).collect::<Vec<_>>());
        assert_eq!(starts(7, 6, 0).len(), 7, "one that refuses costs nothing");
    }

    #[test]
    fn the_last_one_has_its_time_too() {
        let mut race = Race::new([1, 2], 2_000_000, 0);
        assert_eq!((race.next_start(0), race.next_start(0)), (Some(1), None));
        assert!(!race.is_lost(5_000_000), "the second has not begun");
        assert_eq!(race.next_start(5_000_000), Some(2));
        assert!(!race.is_lost(6_999_999) && race.is_lost(7_000_000));
        race.failed(5_000_001);
        assert!(!race.is_lost(5_000_001));
        race.failed(5_000_002);
        assert!(race.is_lost(5_000_002));
    }

    proptest! {
        /// Whatever the addresses do: each is tried once a round, none is forgotten or invented.
        #[test]
        fn every_address_is_tried_once_a_round(
            count in 1usize..9,
            outcomes in proptest::collection::vec((0usize..9, 0u8..3), 1..60),
        ) {
            let mut addresses = Addresses::new(0..count);
            let mut asked: Vec<usize> = Vec::new();
            for (pick, outcome) in outcomes {
                if addresses.is_round_over() {
                    asked.clear();
                }
                let race = addresses.next_race();
                prop_assert_eq!(race.len() + asked.len(), count);
                prop_assert!(race.iter().all(|address| !asked.contains(address)));
                let winner = race[pick % race.len()];
                match outcome {
                    0 => {
                        addresses.admitted(&winner);
                        prop_assert_eq!(addresses.current(), Some(&winner));
                        prop_assert_eq!(addresses.clone().next_race()[0], winner);
                    }
                    1 => {
                        asked.push(winner);
                        let is_over = addresses.put_off(&winner);
                        prop_assert_eq!(is_over, asked.len() == count);
                        let mut next = addresses.clone();
                        next.unreached();
                        let next = next.next_race();
                        prop_assert_eq!(next.last(), Some(&winner));
                    }
                    _ => addresses.unreached(),
                }
            }
        }
    }
}
