//! A whole world in one value: its parts, its time, its events, and its history.
//!
//! The value belongs to the OS thread, so that one process can run thousands of seeds, several at
//! once on several OS threads. While the value is borrowed, nothing that the layers above have
//! stored in it is called or dropped, since that code would borrow it again.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::rng::Rng;
use crate::slots::Slots;
use crate::state::net::Net;
use crate::state::process::{Process, Threads};
use crate::state::store::{Fact, Operation, Store};
use crate::state::{Event, Violation};

/// The time at which each world begins, in µs.
const BEGIN_US: u64 = 1_000_000;

/// The number of lines of the history that are kept.
const HISTORY: usize = 4000;

/// The shortest time for which no thread gets a turn although one could, in µs.
pub(crate) const NAP_MIN_US: u64 = 4;

/// A simulated world.
pub struct World {
    pub(crate) now: u64,
    /// The part of the time in which a process was held up, so that no thread had a turn.
    pub(crate) held_up_us: u64,
    /// The last stamp. Stamps order everything that happens, even at the same time.
    seq: u64,
    /// The random numbers.
    pub rng: Rng,
    /// The data that the layers above keep.
    pub slots: Slots,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) threads: Threads,
    pub(crate) net: Net,
    pub(crate) stores: BTreeMap<u32, Store>,
    pub(crate) operations: BTreeMap<u64, Operation>,
    pub(crate) facts: Vec<Fact>,
    /// The thread whose turn it is.
    pub(crate) current: Option<u64>,
    trash: Vec<Box<dyn Any>>,
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    pub(crate) timers: VecDeque<u64>,
    next_id: u64,
    /// The threads that could have a turn. The allocation is reused.
    pub(crate) ready: Vec<u64>,
    /// The closures that are called in this turn. The allocation is reused.
    pub(crate) due: Vec<u64>,
    /// Counts what threads do. If a turn does not change the count, the thread did nothing.
    pub(crate) activity: u64,
    /// The length of the last time for which no thread had a turn although one could.
    pub(crate) nap_us: u64,
    /// The end of such a time that has begun, or 0.
    pub(crate) nap_until_us: u64,
    violations: Vec<Violation>,
    history: Option<VecDeque<String>>,
    digest: u64,
    pub(crate) steps: u64,
    /// Whether the running code belongs to a dead process, so that nothing that it does has an
    /// effect.
    ghost: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new(0, false));
}

impl World {
    pub(crate) fn new(seed: u64, history: bool) -> World {
        World {
            now: BEGIN_US,
            held_up_us: 0,
            seq: 0,
            rng: Rng::new(seed),
            slots: Slots::default(),
            processes: BTreeMap::new(),
            threads: Threads::default(),
            net: Net::default(),
            stores: BTreeMap::new(),
            operations: BTreeMap::new(),
            facts: Vec::new(),
            current: None,
            trash: Vec::new(),
            events: BTreeMap::new(),
            timers: VecDeque::new(),
            next_id: 0,
            ready: Vec::new(),
            due: Vec::new(),
            activity: 0,
            nap_us: NAP_MIN_US,
            nap_until_us: 0,
            violations: Vec::new(),
            history: history.then(VecDeque::new),
            digest: 0,
            steps: 0,
            ghost: false,
        }
    }

    /// Returns a number that nothing else in this world has.
    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Returns a number that is larger than the stamps of everything that happened before.
    pub fn stamp(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Schedules an event for this time, or for now if the time is past.
    pub(crate) fn at(&mut self, when: u64, event: Event) {
        let seq = self.stamp();
        self.events.insert((when.max(self.now), seq), event);
    }

    /// Returns the thread whose turn it is.
    pub fn current_thread(&self) -> Option<u64> {
        self.current
    }

    /// Returns the process whose turn it is.
    pub fn current_process(&self) -> Option<u32> {
        self.current.and_then(|thread| Some(self.threads.get(thread)?.process))
    }

    /// Returns whether a process is alive.
    pub fn is_alive(&self, process: u32) -> bool {
        self.processes.get(&process).is_some_and(|process| process.alive)
    }

    /// Notes that a thread did something, so that no time is skipped.
    pub fn active(&mut self) {
        self.activity += 1;
        self.nap_us = NAP_MIN_US;
    }

    /// Tells a process's threads whether the process is alive and not stopped.
    pub(crate) fn tell_threads(&mut self, process: u32) {
        let runs = self.processes.get(&process).is_some_and(Process::runs);
        self.threads
            .iter_mut()
            .filter(|thread| thread.process == process)
            .for_each(|thread| thread.runs = runs);
    }

    /// Notes that a process may have something to do.
    pub(crate) fn wake(&mut self, process: u32) {
        for thread in self.threads.iter_mut().filter(|thread| thread.process == process) {
            thread.idle = false;
        }
    }

    /// Drops a value of the layers above later, when the world is not borrowed.
    pub fn discard(&mut self, what: impl Any) {
        self.trash.push(Box::new(what));
    }

    /// Reports a violation.
    pub fn violation(&mut self, property: &'static str, text: String) {
        if !self.ghost {
            self.note(|| format!("VIOLATION of {property}: {text}"));
            self.violations.push(Violation { property, text });
        }
    }

    /// Adds a line to the history, if one is kept.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.ghost {
            return;
        }
        let Some(history) = &mut self.history else { return };
        let thread = self.current.and_then(|id| self.threads.get(id));
        let name = thread.map_or("world", |thread| &*thread.name);
        if history.len() == HISTORY {
            history.pop_front();
        }
        let at = self.now - BEGIN_US;
        history.push_back(format!("{:>4}.{:06} {name:<14} {}", at / 1_000_000, at % 1_000_000, text()));
    }

    /// Adds to the digest, which must be the same in two runs of a seed.
    pub fn digest(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

/// Runs `f` with the world. `f` must not call or drop anything of the layers above.
pub fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| f(&mut world.borrow_mut()))
}

/// Runs `f` as [`with`] does, unless the world is borrowed or dropped. For destructors.
pub fn with_in_drop(f: impl FnOnce(&mut World)) {
    let _ = WORLD.try_with(|world| {
        if let Ok(mut world) = world.try_borrow_mut() {
            f(&mut world);
        }
    });
}

/// Replaces the world. The previous one is dropped while nothing is borrowed.
pub(crate) fn replace(world: World) {
    let old = WORLD.with(|slot| slot.replace(world));
    drop(old);
}

/// Drops the values that could not be dropped while the world was borrowed.
pub(crate) fn empty_trash() {
    loop {
        let trash = with(|w| std::mem::take(&mut w.trash));
        if trash.is_empty() {
            return;
        }
        drop(trash);
    }
}

/// Sets whether the running code belongs to a dead process. Returns the previous value.
pub(crate) fn set_ghost(on: bool) -> bool {
    with(|w| std::mem::replace(&mut w.ghost, on))
}

/// Adds a line to the history, if one is kept.
pub fn note(text: impl FnOnce() -> String) {
    with(|w| w.note(text));
}

/// Returns the time, in µs.
pub fn now() -> u64 {
    with(|w| w.now)
}

/// Returns how long processes have been held up in the middle of a turn so far, in µs. Meanwhile no
/// other thread had a turn either, although in a real world it would have: limits on how long
/// something takes leave this time out.
pub fn held_up_us() -> u64 {
    with(|w| w.held_up_us)
}

/// Returns a number that is larger than the stamps of everything that happened before.
pub fn stamp() -> u64 {
    with(World::stamp)
}

/// Returns the number of steps so far: turns of threads, and events.
pub fn steps() -> u64 {
    with(|w| w.steps)
}

/// Returns the digest of the history.
pub fn digest() -> u64 {
    with(|w| w.digest ^ w.now ^ w.steps << 40)
}

/// Adds to the digest of the history.
pub fn add_digest(value: u64) {
    with(|w| w.digest(value));
}

/// Returns the last lines of the history.
pub fn history() -> Vec<String> {
    with(|w| w.history.as_ref().map(|h| h.iter().cloned().collect()).unwrap_or_default())
}

/// Returns the violations since the last call.
pub fn take_violations() -> Vec<Violation> {
    with(|w| std::mem::take(&mut w.violations))
}

/// Reports a violation.
pub fn violation(property: &'static str, text: String) {
    with(|w| w.violation(property, text));
}

/// Sets a timer: [`next_timer`] returns `key` at this time, in µs.
pub fn timer(at: u64, key: u64) {
    with(|w| w.at(at, Event::Timer(key)));
}

/// Returns the key of a timer that has expired.
pub fn next_timer() -> Option<u64> {
    with(|w| w.timers.pop_front())
}

/// Calls `f` with the world's random numbers, for the driver.
pub fn dice<R>(f: impl FnOnce(&mut Rng) -> R) -> R {
    with(|w| f(&mut w.rng))
}
