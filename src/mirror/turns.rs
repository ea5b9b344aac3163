//! A rate that several mirrors have in common, whose copies take turns.

use std::collections::VecDeque;

use crate::credit::Credit;

/// A mirror that waits for its turn.
#[derive(Debug)]
struct Waiting {
    who: u64,
    bytes: u64,
}

/// The turns of all mirrors of a process. One turn is one copy. A mirror that wants another one goes
/// to the end of the queue, so each waits for at most one copy of every other mirror.
///
/// In any time, turns are given for no more bytes than the rate allows in that time, and those of a
/// tenth of a second, or of the longest copy if that is more.
///
/// The queue has a mirror once, so the number of mirrors bounds it.
#[derive(Debug)]
pub struct Turns {
    rate: u64,
    credit: Credit,
    queue: VecDeque<Waiting>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns::new()
    }
}

impl Turns {
    /// Returns turns without a limit, for which no mirror waits.
    pub const fn new() -> Turns {
        Turns { rate: 0, credit: Credit::new(), queue: VecDeque::new() }
    }

    /// Returns the rate in bytes per second; 0: no limit.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Sets the rate in bytes per second; 0: no limit.
    pub fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// Returns the number of mirrors that wait for their turns.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The mirror `who` wants to copy so many bytes at the time `now`, in µs. Returns true if it has
    /// its turn at once. If not, [`Turns::next`] names it later. A mirror that waits already keeps its
    /// place.
    pub fn want(&mut self, now: u64, who: u64, bytes: u64) -> bool {
        if let Some(waiting) = self.queue.iter_mut().find(|waiting| waiting.who == who) {
            waiting.bytes = bytes;
            return false;
        }
        if self.queue.is_empty() && self.credit.take(now, bytes, self.rate).is_ok() {
            return true;
        }
        self.queue.push_back(Waiting { who, bytes });
        false
    }

    /// Returns the mirror that has its turn now, if there is one: to be asked again until there is none.
    pub fn next(&mut self, now: u64) -> Option<u64> {
        let Waiting { who, bytes } = *self.queue.front()?;
        self.credit.take(now, bytes, self.rate).ok()?;
        self.queue.pop_front();
        Some(who)
    }

    /// A mirror has ended, and does not wait any longer.
    pub fn leave(&mut self, who: u64) {
        self.queue.retain(|waiting| waiting.who != who);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Turns;

    const WINDOW: u64 = 256 << 10;

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut turns = Turns::new();
        assert!((0..100).all(|who| turns.want(5, who, WINDOW)));
        assert_eq!((turns.waiting(), turns.next(5)), (0, None));
    }

    #[test]
    fn those_that_wait_when_the_limit_is_lifted_have_their_turns() {
        let mut turns = Turns::new();
        turns.set_rate(1);
        assert!(!turns.want(1, 7, WINDOW) && !turns.want(1, 8, WINDOW));
        turns.leave(7);
        turns.set_rate(0);
        assert_eq!((turns.next(1), turns.next(1)), (Some(8), None));
    }

    #[test]
    fn a_mirror_that_wants_twice_waits_once() {
        let mut turns = Turns::new();
        turns.set_rate(1);
        assert!(!turns.want(1, 7, WINDOW) && !turns.want(1, 7, 1));
        assert_eq!(turns.waiting(), 1);
        assert_eq!((turns.next(2_000_000), turns.next(2_000_000)), (Some(7), None), "the second one's bytes");
    }

    /// Returns the turns of mirrors that always want another one, each with copies of one length: the
    /// time, the mirror, and the bytes.
    fn given(rate: u64, copies: &[u64], gaps_us: &[u64]) -> Vec<(u64, usize, u64)> {
        let (mut turns, mut now, mut given) = (Turns::new(), 1_000_000, Vec::new());
        turns.set_rate(rate);
        let mut wanting: Vec<usize> = (0..copies.len()).collect();
        for gap in gaps_us {
            loop {
                for who in std::mem::take(&mut wanting) {
                    if turns.want(now, who as u64, copies[who]) {
                        given.push((now, who, copies[who]));
                        wanting.push(who);
                    }
                }
                if let Some(who) = turns.next(now) {
                    given.push((now, who as usize, copies[who as usize]));
                    wanting.push(who as usize);
                }
                if wanting.is_empty() {
                    break;
                }
            }
            now += gap;
        }
        given
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn turns_keep_to_the_rate_and_go_round(
            rate in 1u64..(4 << 20),
            copies in proptest::collection::vec(64 << 10..=WINDOW, 1..12),
            gaps_us in proptest::collection::vec(0u64..300_000, 1..60),
        ) {
            let given = given(rate, &copies, &gaps_us);
            for (first, (from, ..)) in given.iter().enumerate() {
                let mut bytes = 0;
                for (at, _, more) in &given[first..] {
                    bytes += more;
                    let most = u128::from(rate) * u128::from(at - from) / 1_000_000;
                    let burst = (rate / 10).max(WINDOW);
                    prop_assert!(u128::from(bytes) <= most + u128::from(burst), "{bytes} from {from} to {at}");
                }
            }
            // Once all wait, each has its turn once before any has the next one.
            let all: BTreeSet<usize> = (0..copies.len()).collect();
            let later: Vec<usize> =
                given.iter().filter(|(at, ..)| *at > 1_000_000).map(|(_, who, _)| *who).collect();
            for round in later.windows(copies.len()) {
                prop_assert_eq!(&round.iter().copied().collect::<BTreeSet<usize>>(), &all);
            }
        }

        #[test]
        fn a_queue_that_is_served_is_used_in_full(rate in (4u64 << 20)..(1 << 30), mirrors in 1usize..20) {
            let given = given(rate, &vec![WINDOW; mirrors], &vec![1_000; 1_000]);
            let bytes: u64 = given.iter().map(|(_, _, bytes)| bytes).sum();
            prop_assert!(bytes >= rate / 10 * 9, "{bytes} of {rate}");
        }
    }
}
