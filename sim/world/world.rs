//! All of a world in one value: its parts, its time, what is due when, and its history.
//!
//! The value belongs to the OS thread, so that thousands of seeds can run in one process, several
//! at once on several OS threads. Nothing that the layers above have given it is called or dropped
//! while it is borrowed: that would come back in.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::rng::Rng;
use crate::slots::Slots;
use crate::state::net::Net;
use crate::state::process::{Process, Thread};
use crate::state::store::{Fact, Operation, Store};
use crate::state::{Event, Violation};

/// When each world begins, µs.
const BEGIN_US: u64 = 1_000_000;

/// Lines of the history that are kept.
const HISTORY: usize = 4000;

/// The shortest time for which nobody gets a turn although somebody could, µs.
pub(crate) const NAP_MIN_US: u64 = 4;

/// A world.
pub struct World {
    pub(crate) now: u64,
    /// How much of it was a process's being held up: nobody had a turn meanwhile.
    pub(crate) held_up_us: u64,
    /// Orders all that happens, also what happens at the same time.
    seq: u64,
    /// Its dice.
    pub rng: Rng,
    /// What the layers above keep.
    pub slots: Slots,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) threads: BTreeMap<u64, Thread>,
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
    /// Threads that could have a turn; here to be used again.
    pub(crate) ready: Vec<u64>,
    /// Counts what threads do, so that a turn in which nothing was done can be told.
    pub(crate) activity: u64,
    pub(crate) nap_us: u64,
    violations: Vec<Violation>,
    history: Option<VecDeque<String>>,
    digest: u64,
    pub(crate) steps: u64,
    /// The code that runs belongs to a process that is dead already: nothing that it does has an
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
            threads: BTreeMap::new(),
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
            activity: 0,
            nap_us: NAP_MIN_US,
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

    /// Returns a number that is larger than that of all that happened before.
    pub fn stamp(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Has something happen at this time, or now if that is over.
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
        self.current.and_then(|thread| Some(self.threads.get(&thread)?.process))
    }

    /// Returns whether a process lives.
    pub fn is_alive(&self, process: u32) -> bool {
        self.processes.get(&process).is_some_and(|process| process.alive)
    }

    /// Notes that a thread did something: this is no time for a nap.
    pub fn active(&mut self) {
        self.activity += 1;
        self.nap_us = NAP_MIN_US;
    }

    /// Notes that a process may have something to do.
    pub(crate) fn wake(&mut self, process: u32) {
        for thread in self.threads.values_mut().filter(|thread| thread.process == process) {
            thread.idle = false;
        }
    }

    /// Drops something of the layers above, but not while the world is borrowed.
    pub fn discard(&mut self, what: impl Any) {
        self.trash.push(Box::new(what));
    }

    /// Reports something that must not be.
    pub fn violation(&mut self, property: &'static str, text: String) {
        if !self.ghost {
            self.note(|| format!("VIOLATION of {property}: {text}"));
            self.violations.push(Violation { property, text });
        }
    }

    /// Writes a line into the history, if there is one.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.ghost {
            return;
        }
        let Some(history) = &mut self.history else { return };
        let thread = self.current.and_then(|id| self.threads.get(&id));
        let name = thread.map_or("world", |thread| &*thread.name);
        if history.len() == HISTORY {
            history.pop_front();
        }
        let at = self.now - BEGIN_US;
        history.push_back(format!("{:>4}.{:06} {name:<14} {}", at / 1_000_000, at % 1_000_000, text()));
    }

    /// Adds to what two runs of a seed must have in common.
    pub fn digest(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

/// Runs `f` with the world. `f` must call or drop nothing of the layers above.
pub fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| f(&mut world.borrow_mut()))
}

/// Runs `f` as [`with`] does, but not while the world is borrowed or dropped: for destructors.
pub fn with_in_drop(f: impl FnOnce(&mut World)) {
    let _ = WORLD.try_with(|world| {
        if let Ok(mut world) = world.try_borrow_mut() {
            f(&mut world);
        }
    });
}

/// Puts a world in place of the one that is there, which is dropped with nothing borrowed.
pub(crate) fn replace(world: World) {
    let old = WORLD.with(|slot| slot.replace(world));
    drop(old);
}

/// Drops what could not be dropped while the world was borrowed.
pub(crate) fn empty_trash() {
    loop {
        let trash = with(|w| std::mem::take(&mut w.trash));
        if trash.is_empty() {
            return;
        }
        drop(trash);
    }
}

/// Sets whether the code that runs belongs to a dead process. Returns the previous value.
pub(crate) fn set_ghost(on: bool) -> bool {
    with(|w| std::mem::replace(&mut w.ghost, on))
}

/// Writes a line into the history, if there is one.
pub fn note(text: impl FnOnce() -> String) {
    with(|w| w.note(text));
}

/// Returns the time, µs.
pub fn now() -> u64 {
    with(|w| w.now)
}

/// Returns for how long, so far, processes were held up in the middle of a turn, µs. In that time
/// nobody else had a turn either, who in a real world would have had: bounds of how long something
/// takes leave it out.
pub fn held_up_us() -> u64 {
    with(|w| w.held_up_us)
}

/// Returns a number that is larger than that of all that happened before.
pub fn stamp() -> u64 {
    with(World::stamp)
}

/// Returns the steps so far: turns of threads, and events.
pub fn steps() -> u64 {
    with(|w| w.steps)
}

/// Returns the history's hash.
pub fn digest() -> u64 {
    with(|w| w.digest ^ w.now ^ w.steps << 40)
}

/// Adds to the history's hash.
pub fn add_digest(value: u64) {
    with(|w| w.digest(value));
}

/// Returns the history's last lines.
pub fn history() -> Vec<String> {
    with(|w| w.history.as_ref().map(|h| h.iter().cloned().collect()).unwrap_or_default())
}

/// Returns what was seen that must not be, since the last call.
pub fn take_violations() -> Vec<Violation> {
    with(|w| std::mem::take(&mut w.violations))
}

/// Reports something that must not be.
pub fn violation(property: &'static str, text: String) {
    with(|w| w.violation(property, text));
}

/// Asks for [`next_timer`] to give `key` at this time, µs.
pub fn timer(at: u64, key: u64) {
    with(|w| w.at(at, Event::Timer(key)));
}

/// Returns the key of a timer that has come.
pub fn next_timer() -> Option<u64> {
    with(|w| w.timers.pop_front())
}

/// Gives the driver random numbers, of the same dice.
pub fn dice<R>(f: impl FnOnce(&mut Rng) -> R) -> R {
    with(|w| f(&mut w.rng))
}
