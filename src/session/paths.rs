//! The addresses of a target that a client's channels use, and what is known of each.
//!
//! With the policy *failover*, all channels use the address at which the control connection was
//! admitted. With *spread*, each channel has an address of its own, by the number of its queue, and
//! goes to the next usable one while its own is not:
//!
//! - An address is usable once something has connected there. The control side *probes* the others:
//!   it connects and closes without a byte, which costs the target nothing.
//! - An address at which an attempt fails, or a connection falls silent, is not used before its
//!   *hold-down* is over and a probe has connected. The hold-down doubles each time, until data has
//!   flowed.
//! - An address that does not know the session is another instance's, and not used while the
//!   session lives.
//! - If no address is usable, channels try the one that was tried longest ago.

use crate::mutation::{self, Mutation};

/// The first hold-down, µs: longer than the restart of a listener or the convergence of most
/// routes.
const HOLD_DOWN_FIRST_US: u64 = 1_000_000;

/// The longest hold-down, µs. A path that connects and then carries nothing costs a channel the
/// keep-alive time whenever it is used again.
const HOLD_DOWN_MAX_US: u64 = 60_000_000;

/// The hold-down of a path that loses large packets, µs. Connecting proves nothing about such a
/// path.
const HOLD_DOWN_SUSPECT_US: u64 = 300_000_000;

/// The time between two probes of an address, µs: twice the time that one may take.
pub const PROBE_PERIOD_US: u64 = 4_000_000;

/// How channels use the addresses of their target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathPolicy {
    /// All channels use the address at which the control connection was admitted.
    #[default]
    Failover,
    /// The channels are spread over the usable addresses.
    Spread,
}

impl PathPolicy {
    /// All policies, the default first.
    pub const ALL: [PathPolicy; 2] = [PathPolicy::Failover, PathPolicy::Spread];

    /// Returns the policy's name in RPCs.
    pub fn name(self) -> &'static str {
        match self {
            PathPolicy::Failover => "failover",
            PathPolicy::Spread => "spread",
        }
    }
}

/// Whether a path is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing has connected there yet, or the path has failed since.
    Down {
        /// The time of the next probe, µs.
        next_us: u64,
    },
    /// As [`Health::Down`], and a probe is under way.
    Probing {
        /// The time of the next probe if this one has no outcome, µs.
        next_us: u64,
    },
    /// Something has connected there.
    Usable,
    /// The target there does not know the session.
    OtherInstance,
}

/// What is known of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<T> {
    /// The address.
    pub address: T,
    /// Whether it is used.
    pub health: Health,
    /// How many connections to it were lost.
    pub losses: u64,
    /// Why the last attempt failed or the last connection was lost; `None` once another one was
    /// admitted.
    pub last_error: Option<String>,
    /// Set while large packets seem to get lost on the way: what was seen, and what to do.
    pub note: Option<String>,
    /// The hold-down after the next failure, µs.
    hold_down_us: u64,
}

/// How a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// True if the peer fell silent. Otherwise somebody closed the connection, and the address may
    /// be connected to again at once if data had flowed.
    pub is_silent: bool,
    /// True if data had flowed on the connection for a while.
    pub has_flowed: bool,
}

/// What connections say about large packets on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathNote {
    /// Large packets seem to get lost: what was seen, and what to do.
    Suspect(String),
    /// Large packets pass: data flows on a connection.
    Passes,
    /// Nothing is known any more.
    Unknown,
}

/// All addresses of a target, in the order that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths<T> {
    all: Vec<Path<T>>,
}

impl<T> Default for Paths<T> {
    fn default() -> Paths<T> {
        Paths { all: Vec::new() }
    }
}

impl<T: Clone + PartialEq> Paths<T> {
    /// Replaces the addresses, which are distinct. What is known of those that stay is kept.
    pub fn replace(&mut self, addresses: &[T]) {
        let mut before = std::mem::take(&mut self.all);
        for address in addresses {
            let known = before.iter().position(|path| path.address == *address);
            self.all.push(match known {
                Some(at) => before.swap_remove(at),
                None => Path {
                    address: address.clone(),
                    health: Health::Down { next_us: 0 },
                    losses: 0,
                    last_error: None,
                    note: None,
                    hold_down_us: HOLD_DOWN_FIRST_US,
                },
            });
        }
    }

    /// Returns what is known of each address.
    pub fn all(&self) -> &[Path<T>] {
        &self.all
    }

    /// Returns what is known of an address, unless it is not the target's any more.
    fn path(&mut self, address: &T) -> Option<&mut Path<T>> {
        self.all.iter_mut().find(|path| path.address == *address)
    }

    /// Notes that a connection was admitted at this address.
    pub fn admitted(&mut self, address: &T) {
        let Some(path) = self.path(address) else { return };
        if path.note.is_none() {
            path.health = Health::Usable;
        }
        path.last_error = None;
    }

    /// Notes that an attempt failed at this address.
    pub fn failed(&mut self, address: &T, why: String, now_us: u64) {
        let Some(path) = self.path(address) else { return };
        path.last_error = Some(why);
        path.hold_down(now_us);
    }

    /// Notes that a connection to this address was lost.
    pub fn lost(&mut self, address: &T, loss: Loss, why: String, now_us: u64) {
        let Some(path) = self.path(address) else { return };
        path.losses += 1;
        path.last_error = Some(why);
        if loss.has_flowed {
            path.hold_down_us = HOLD_DOWN_FIRST_US;
        }
        // Where connections are admitted and closed at once, the next one would fare no better.
        if loss.is_silent || !loss.has_flowed {
            path.hold_down(now_us);
        }
    }

    /// Sets or ends the note that a path loses large packets. Returns true if that is news.
    pub fn note(&mut self, address: &T, note: PathNote, now_us: u64) -> bool {
        let Some(path) = self.path(address) else { return false };
        let health = match note {
            PathNote::Suspect(_) => Health::Down { next_us: now_us + HOLD_DOWN_SUSPECT_US },
            PathNote::Passes => Health::Usable,
            PathNote::Unknown => path.health,
        };
        if path.health != Health::OtherInstance {
            path.health = health;
        }
        let before = path.note.take();
        if let PathNote::Suspect(text) = note {
            path.note = Some(text);
        }
        before.is_some() != path.note.is_some()
    }

    /// Notes that the target at this address does not know the session.
    pub fn other_instance(&mut self, address: &T, why: String) {
        if mutation::is_on(Mutation::UseOtherInstance) {
            return;
        }
        let Some(path) = self.path(address) else { return };
        path.health = Health::OtherInstance;
        path.last_error = Some(why);
    }

    /// Notes that there is another session, which all instances may know.
    pub fn session_changed(&mut self) {
        for path in self.all.iter_mut().filter(|path| path.health == Health::OtherInstance) {
            path.health = Health::Down { next_us: 0 };
        }
    }

    /// Returns the addresses that are to be probed now, and counts them as probed.
    pub fn probes_due(&mut self, now_us: u64) -> Vec<T> {
        let mut due = Vec::new();
        for path in &mut self.all {
            if let Health::Down { next_us } | Health::Probing { next_us } = path.health
                && next_us <= now_us
            {
                path.health = Health::Probing { next_us: now_us + PROBE_PERIOD_US };
                due.push(path.address.clone());
            }
        }
        due
    }

    /// Takes the outcome of a probe. A path that has failed since the probe began stays down.
    pub fn probed(&mut self, address: &T, outcome: Result<(), String>) {
        let Some(path) = self.path(address) else { return };
        let Health::Probing { next_us } = path.health else { return };
        match outcome {
            Ok(()) => path.health = Health::Usable,
            Err(why) => {
                path.health = Health::Down { next_us };
                path.last_error = Some(why);
            }
        }
    }

    /// Returns the paths in the order in which a queue prefers them.
    fn preferred(&self, queue: u16) -> impl Iterator<Item = &Path<T>> {
        let first = usize::from(queue.saturating_sub(1)).checked_rem(self.all.len()).unwrap_or(0);
        self.all[first..].iter().chain(&self.all[..first])
    }

    /// Returns the address to which a queue, 1 or more, connects, or `None` if no address might
    /// know the session.
    pub fn choose(&self, queue: u16) -> Option<&T> {
        let usable = self.preferred(queue).find(|path| path.health == Health::Usable);
        let down = || {
            let next_us = |path: &&Path<T>| match path.health {
                Health::Down { next_us } | Health::Probing { next_us } => Some(next_us),
                Health::Usable | Health::OtherInstance => None,
            };
            self.preferred(queue).filter(|path| next_us(path).is_some()).min_by_key(next_us)
        };
        usable.or_else(down).map(|path| &path.address)
    }

    /// Returns true if there is a usable path, which any queue would choose.
    pub fn has_usable(&self) -> bool {
        self.all.iter().any(|path| path.health == Health::Usable)
    }

    /// Returns true if a queue that is connected to `at` prefers another usable address.
    pub fn is_better(&self, queue: u16, at: &T) -> bool {
        let first = self.preferred(queue).find(|path| path.health == Health::Usable || path.address == *at);
        first.is_some_and(|path| path.address != *at)
    }
}

impl<T> Path<T> {
    /// Begins a hold-down of the path.
    fn hold_down(&mut self, now_us: u64) {
        let next_us = match self.health {
            Health::OtherInstance => return,
            // The hold-down has begun already: many channels may notice one failure.
            Health::Down { next_us } if now_us < next_us => next_us.max(now_us + HOLD_DOWN_FIRST_US),
            Health::Usable | Health::Probing { .. } | Health::Down { .. } => {
                let until_us = now_us + self.hold_down_us;
                self.hold_down_us = (2 * self.hold_down_us).min(HOLD_DOWN_MAX_US);
                until_us
            }
        };
        self.health = Health::Down { next_us };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SILENT: Loss = Loss { is_silent: true, has_flowed: false };

    fn paths(count: u8) -> Paths<u8> {
        let mut paths = Paths::default();
        paths.replace(&(0..count).collect::<Vec<_>>());
        paths
    }

    /// Returns paths that all are usable.
    fn usable(count: u8) -> Paths<u8> {
        let mut paths = paths(count);
        (0..count).for_each(|address| paths.admitted(&address));
        paths
    }

    fn chosen(paths: &Paths<u8>, queues: std::ops::RangeInclusive<u16>) -> Vec<u8> {
        queues.map(|queue| *paths.choose(queue).expect("there is one")).collect()
    }

    #[test]
    fn channels_are_spread_over_the_usable_addresses_and_come_back() {
        let mut paths = usable(3);
        assert_eq!(chosen(&paths, 1..=6), [0, 1, 2, 0, 1, 2]);
        paths.failed(&1, "refused".to_owned(), 0);
        assert_eq!(chosen(&paths, 1..=6), [0, 2, 2, 0, 2, 2]);
        assert!(!paths.is_better(2, &2), "its own is down");
        assert_eq!(paths.probes_due(HOLD_DOWN_FIRST_US - 1), [0; 0]);
        assert_eq!(paths.probes_due(HOLD_DOWN_FIRST_US), [1]);
        assert_eq!(paths.probes_due(HOLD_DOWN_FIRST_US), [0; 0], "one at a time");
        paths.probed(&1, Ok(()));
        assert!(paths.is_better(2, &2) && !paths.is_better(2, &1) && !paths.is_better(3, &2));
        assert_eq!(chosen(&paths, 1..=3), [0, 1, 2]);
    }

    #[test]
    fn what_was_never_seen_to_connect_is_probed_first() {
        let mut paths = paths(3);
        paths.admitted(&1);
        assert_eq!(chosen(&paths, 1..=3), [1, 1, 1]);
        assert_eq!(paths.probes_due(0), [0, 2]);
        paths.probed(&0, Ok(()));
        paths.probed(&2, Err("no route".to_owned()));
        assert_eq!(chosen(&paths, 1..=3), [0, 1, 0]);
        assert_eq!(paths.all()[2].last_error.as_deref(), Some("no route"));
        assert_eq!(paths.probes_due(PROBE_PERIOD_US), [2]);
    }

    #[test]
    fn another_instance_is_not_used_while_the_session_lives() {
        let mut paths = usable(2);
        paths.other_instance(&0, "no such session".to_owned());
        assert_eq!((chosen(&paths, 1..=2), paths.probes_due(u64::MAX / 2)), (vec![1, 1], vec![]));
        paths.failed(&0, "refused".to_owned(), 0);
        paths.lost(&0, SILENT, "silent".to_owned(), 0);
        paths.note(&0, PathNote::Passes, 0);
        assert_eq!(paths.all()[0].health, Health::OtherInstance);
        paths.failed(&1, "refused".to_owned(), 0);
        assert_eq!(chosen(&paths, 1..=2), [1, 1], "rather one that is down");
        paths.session_changed();
        assert_eq!(paths.probes_due(0), [0]);
        paths.probed(&0, Ok(()));
        assert_eq!(chosen(&paths, 1..=2), [0, 0]);
        paths.other_instance(&0, String::new());
        paths.other_instance(&1, String::new());
        assert_eq!(paths.choose(1), None);
    }

    #[test]
    fn a_path_that_fails_again_is_held_for_longer_until_data_flows() {
        let mut paths = usable(1);
        let mut now = 0;
        let mut hold = |paths: &mut Paths<u8>, loss| {
            paths.lost(&0, loss, String::new(), now);
            let Health::Down { next_us } = paths.all()[0].health else { panic!("it is usable") };
            let held = next_us - now;
            now = next_us;
            assert_eq!(paths.probes_due(now), [0]);
            paths.probed(&0, Ok(()));
            held
        };
        let held: Vec<u64> = (0..8).map(|_| hold(&mut paths, SILENT) / HOLD_DOWN_FIRST_US).collect();
        assert_eq!(held, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(hold(&mut paths, Loss { has_flowed: true, ..SILENT }), HOLD_DOWN_FIRST_US);
        let closed_early = Loss { is_silent: false, has_flowed: false };
        assert_eq!(hold(&mut paths, closed_early), 2 * HOLD_DOWN_FIRST_US);
        paths.lost(&0, Loss { is_silent: false, has_flowed: true }, String::new(), now);
        assert_eq!((paths.all()[0].health, paths.all()[0].losses), (Health::Usable, 11), "it was closed");
        // Many channels notice one failure.
        (0..7).for_each(|_| paths.failed(&0, String::new(), now));
        assert_eq!(paths.all()[0].health, Health::Down { next_us: now + HOLD_DOWN_FIRST_US });
    }

    #[test]
    fn a_probe_says_nothing_of_what_failed_since_it_began() {
        let mut paths = paths(1);
        assert_eq!(paths.probes_due(0), [0]);
        paths.failed(&0, "no welcome".to_owned(), 1);
        paths.probed(&0, Ok(()));
        assert_eq!(paths.all()[0].health, Health::Down { next_us: 1 + HOLD_DOWN_FIRST_US });
    }

    #[test]
    fn a_path_that_loses_large_packets_is_avoided_until_data_flows() {
        let mut paths = usable(2);
        paths.lost(&0, SILENT, String::new(), 0);
        let suspect = || PathNote::Suspect("check the MTU".to_owned());
        assert!(paths.note(&0, suspect(), 0) && !paths.note(&0, suspect(), 0));
        paths.admitted(&0);
        paths.lost(&0, SILENT, String::new(), 0);
        assert_eq!(paths.probes_due(HOLD_DOWN_SUSPECT_US - 1), [0; 0], "small frames prove nothing");
        assert_eq!(chosen(&paths, 1..=2), [1, 1]);
        assert_eq!(paths.probes_due(HOLD_DOWN_SUSPECT_US), [0]);
        paths.probed(&0, Ok(()));
        assert_eq!(chosen(&paths, 1..=2), [0, 1], "it is tried again");
        assert!(paths.note(&0, PathNote::Passes, 0) && paths.all()[0].note.is_none());
        assert_eq!(paths.all()[0].health, Health::Usable);
        // A channel that is closed knows no more, and proves nothing.
        paths.note(&0, suspect(), 0);
        assert!(paths.note(&0, PathNote::Unknown, 1) && paths.all()[0].note.is_none());
        assert_eq!(paths.all()[0].health, Health::Down { next_us: HOLD_DOWN_SUSPECT_US });
    }

    #[test]
    fn what_is_known_of_an_address_that_stays_is_kept() {
        let mut paths = usable(3);
        paths.lost(&2, SILENT, "silent".to_owned(), 0);
        paths.replace(&[5, 2]);
        assert_eq!((paths.all().len(), paths.all()[1].losses), (2, 1));
        paths.admitted(&0);
        assert_eq!(paths.choose(1), Some(&5), "it was replaced while it was asked");
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Admitted,
        Failed,
        Lost(Loss),
        Suspect,
        Cleared,
        OtherInstance,
        NewSession,
        Probe(bool),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Admitted),
            Just(Event::Failed),
            (any::<bool>(), any::<bool>())
                .prop_map(|(is_silent, has_flowed)| Event::Lost(Loss { is_silent, has_flowed })),
            Just(Event::Suspect),
            Just(Event::Cleared),
            Just(Event::OtherInstance),
            Just(Event::NewSession),
            any::<bool>().prop_map(Event::Probe),
        ]
    }

    proptest! {
        /// Whatever happens: no queue uses another instance's address, none goes to one that is
        /// down while another is usable, a queue whose own address is usable has it, and every
        /// address that is down is probed in the end.
        #[test]
        fn queues_use_what_is_best(
            count in 1u8..6,
            events in proptest::collection::vec((0u8..6, event(), 0u64..5_000_000), 0..60),
        ) {
            let mut paths = paths(count);
            let mut others = Vec::new();
            let mut now = 0;
            for (pick, event, later) in events {
                now += later;
                let address = pick % count;
                match event {
                    Event::Admitted => {
                        paths.admitted(&address);
                        others.retain(|other| *other != address || paths.all()[usize::from(address)].note.is_some());
                    }
                    Event::Failed => paths.failed(&address, String::new(), now),
                    Event::Lost(loss) => paths.lost(&address, loss, String::new(), now),
                    Event::Suspect => _ = paths.note(&address, PathNote::Suspect(String::new()), now),
                    Event::Cleared => _ = paths.note(&address, PathNote::Passes, now),
                    Event::OtherInstance => {
                        paths.other_instance(&address, String::new());
                        others.push(address);
                    }
                    Event::NewSession => {
                        paths.session_changed();
                        others.clear();
                    }
                    Event::Probe(connects) => {
                        for due in paths.probes_due(now) {
                            prop_assert!(!others.contains(&due));
                            paths.probed(&due, if connects { Ok(()) } else { Err(String::new()) });
                        }
                    }
                }
                let is_usable = |address: u8| paths.all()[usize::from(address)].health == Health::Usable;
                let any_usable = (0..count).any(is_usable);
                prop_assert_eq!(paths.has_usable(), any_usable);
                for queue in 1..=u16::from(count) {
                    let own = queue as u8 - 1;
                    let Some(&chosen) = paths.choose(queue) else {
                        prop_assert!((0..count).all(|address| others.contains(&address)));
                        continue;
                    };
                    prop_assert!(!others.contains(&chosen));
                    prop_assert!(is_usable(chosen) || !any_usable);
                    prop_assert!(chosen == own || !is_usable(own));
                    prop_assert!(!paths.is_better(queue, &chosen), "it would never stay");
                    for at in (0..count).filter(|&at| paths.is_better(queue, &at)) {
                        prop_assert!(is_usable(chosen) && chosen != at);
                    }
                }
            }
            let later = now + HOLD_DOWN_SUSPECT_US + PROBE_PERIOD_US;
            let due = paths.probes_due(later).len();
            let idle = paths.all().iter().filter(|path| !matches!(path.health, Health::Probing { .. })).count();
            prop_assert_eq!(due + idle, usize::from(count));
            let is_down = |path: &Path<u8>| matches!(path.health, Health::Down { .. });
            prop_assert!(!paths.all().iter().any(is_down));
        }
    }
}
