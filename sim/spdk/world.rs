//! The world: its time, what is due when, and whose turn it is.
//!
//! All of it is in one value that belongs to the OS thread, so that thousands of seeds can run in one
//! process, several at once on several OS threads. Nothing that the code under test gave us is called or dropped
//! while that value is borrowed: it would come back in.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use crate::net::{self, Net};
use crate::process::{Process, SimThread};
use crate::rng::Rng;
use crate::store::{self, Op, Store};
use crate::user::SimDisk;

/// Lines of the history that are kept.
const HISTORY: usize = 4000;

/// Messages that a thread takes in one turn, as SPDK does.
const MESSAGES_A_TURN: usize = 8;

/// The longest time for which nobody gets a turn although he could, µs: less than what a process takes for
/// having been stopped.
const NAP_MAX_US: u64 = 20_000;

/// The shortest, µs.
const NAP_MIN_US: u64 = 4;

/// What happens at a moment.
pub(crate) enum Event {
    /// Bytes may have reached a socket.
    Deliver(u64),
    /// A connecting attempt reaches its listener.
    Connect(u64),
    /// The backend executes an operation.
    Execute(u64),
    /// The backend has finished an operation.
    Done(u64),
    /// The driver asked to be told.
    Timer(u64),
}

/// What the world saw that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The broken promise, one of the labels in [`promise`](crate::promise).
    pub property: &'static str,
    /// What happened.
    pub text: String,
}

pub(crate) struct World {
    pub now: u64,
    /// How much of it was a process's being held up: nobody had a turn meanwhile.
    pub held_up_us: u64,
    /// Orders all that happens, also what happens at the same time.
    pub seq: u64,
    pub rng: Rng,
    pub processes: BTreeMap<u32, Process>,
    pub threads: BTreeMap<u64, SimThread>,
    pub net: Net,
    pub stores: BTreeMap<u32, Store>,
    pub ops: BTreeMap<u64, Op>,
    pub disks: BTreeMap<u64, SimDisk>,
    pub instances: BTreeMap<[u8; 16], u32>,
    pub secret_files: BTreeMap<PathBuf, Vec<u8>>,
    pub locals: BTreeMap<(u32, u32, usize), Rc<dyn Any>>,
    /// The thread whose turn it is.
    pub current: Option<u64>,
    pub violations: Vec<Violation>,
    pub trash: Vec<Box<dyn Any>>,
    events: BTreeMap<(u64, u64), Event>,
    timers: VecDeque<u64>,
    next_id: u64,
    /// Threads that could have a turn; here to be used again.
    ready: Vec<u64>,
    /// Counts what threads do, so that a turn in which nothing was done can be told.
    pub activity: u64,
    nap_us: u64,
    history: Option<VecDeque<String>>,
    digest: u64,
    steps: u64,
    ghost: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new(0));
}

impl World {
    fn new(seed: u64) -> World {
        World {
            now: 1_000_000,
            held_up_us: 0,
            seq: 0,
            rng: Rng::new(seed),
            processes: BTreeMap::new(),
            threads: BTreeMap::new(),
            net: Net::default(),
            stores: BTreeMap::new(),
            ops: BTreeMap::new(),
            disks: BTreeMap::new(),
            instances: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            locals: BTreeMap::new(),
            current: None,
            violations: Vec::new(),
            trash: Vec::new(),
            events: BTreeMap::new(),
            timers: VecDeque::new(),
            next_id: 0,
            ready: Vec::new(),
            activity: 0,
            nap_us: NAP_MIN_US,
            history: None,
            digest: 0,
            steps: 0,
            ghost: false,
        }
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn stamp(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub fn at(&mut self, when: u64, event: Event) {
        let seq = self.stamp();
        self.events.insert((when.max(self.now), seq), event);
    }

    /// The process whose turn it is.
    pub fn current_process(&self) -> Option<u32> {
        self.current.and_then(|thread| Some(self.threads.get(&thread)?.process))
    }

    /// Somebody did something: not the time for a nap.
    pub fn active(&mut self) {
        self.activity += 1;
        self.nap_us = NAP_MIN_US;
    }

    /// A process may have something to do.
    pub fn wake(&mut self, process: u32) {
        for thread in self.threads.values_mut().filter(|thread| thread.process == process) {
            thread.idle = false;
        }
    }

    pub fn violation(&mut self, property: &'static str, text: String) {
        if !self.ghost {
            self.note(|| format!("VIOLATION of {property}: {text}"));
            self.violations.push(Violation { property, text });
        }
    }

    /// A line of the history.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.ghost {
            return;
        }
        let who = self.current.and_then(|id| self.threads.get(&id));
        let who = who.map_or("world", |thread| thread.name.as_str());
        if let Some(history) = &mut self.history {
            if history.len() == HISTORY {
                history.pop_front();
            }
            let at = self.now - 1_000_000;
            history.push_back(format!("{:>4}.{:06} {who:<14} {}", at / 1_000_000, at % 1_000_000, text()));
        }
    }

    /// Adds to what two runs of a seed must have in common.
    pub fn digest(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

/// Runs `f` with the world. `f` must call or drop nothing of the code under test.
pub(crate) fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| f(&mut world.borrow_mut()))
}

/// As [`with`], for what is dropped: also when the world itself is going.
pub(crate) fn with_in_drop(f: impl FnOnce(&mut World)) {
    let _ = WORLD.try_with(|world| {
        if let Ok(mut world) = world.try_borrow_mut() {
            f(&mut world);
        }
    });
}

/// Writes a line into the history, if there is one.
pub fn note(text: impl FnOnce() -> String) {
    with(|w| w.note(text));
}

/// Begins a world of this seed, with nothing in it; `history` keeps the last lines of what happens.
pub fn begin(seed: u64, history: bool) {
    end();
    let mut world = World::new(seed);
    world.history = history.then(VecDeque::new);
    let old = WORLD.with(|slot| slot.replace(world));
    drop(old);
}

/// Ends the world. Everything in it is dropped.
pub fn end() {
    let processes: Vec<u32> = with(|w| {
        w.ghost = true;
        w.processes.keys().copied().collect()
    });
    for process in processes {
        crate::process::bury(process);
    }
    user::forget_hooks();
    empty_trash();
    let old = WORLD.with(|slot| slot.replace(World::new(0)));
    drop(old);
}

use crate::user;

/// Whether the code that runs belongs to a process that is dead already: nothing that it does has an effect.
pub(crate) fn set_ghost(on: bool) -> bool {
    with(|w| std::mem::replace(&mut w.ghost, on))
}

/// Time, µs.
pub fn now() -> u64 {
    with(|w| w.now)
}

/// How long, so far, a process was held up in the middle of a turn, µs. In that time nobody else had a turn either, who
/// in a real world would have had: bounds of how long something takes leave it out.
pub fn held_up_us() -> u64 {
    with(|w| w.held_up_us)
}

/// A number that is larger than that of all that happened before.
pub fn stamp() -> u64 {
    with(World::stamp)
}

/// Steps so far: turns of threads, and events.
pub fn steps() -> u64 {
    with(|w| w.steps)
}

/// The history's hash.
pub fn digest() -> u64 {
    with(|w| w.digest ^ w.now ^ w.steps << 40)
}

/// Adds to the history's hash.
pub fn add_digest(value: u64) {
    with(|w| w.digest(value));
}

/// The history's last lines.
pub fn history() -> Vec<String> {
    with(|w| w.history.as_ref().map(|h| h.iter().cloned().collect()).unwrap_or_default())
}

/// What was seen that must not be, since the last call.
pub fn take_violations() -> Vec<Violation> {
    with(|w| std::mem::take(&mut w.violations))
}

/// Reports something that must not be.
pub fn violation(property: &'static str, text: String) {
    with(|w| w.violation(property, text));
}

/// Asks for [`next_timer`] to give `key` at this time.
pub fn timer(at: u64, key: u64) {
    with(|w| w.at(at, Event::Timer(key)));
}

/// A timer that has come.
pub fn next_timer() -> Option<u64> {
    with(|w| w.timers.pop_front())
}

/// Random numbers for the driver, of the same dice.
pub fn dice<R>(f: impl FnOnce(&mut Rng) -> R) -> R {
    with(|w| f(&mut w.rng))
}

/// What is due happens, then one thread has a turn, or time passes.
pub fn step() {
    loop {
        let due = with(|w| {
            let first = w.events.first_entry()?;
            if first.key().0 > w.now {
                return None;
            }
            let event = first.remove();
            w.steps += 1;
            w.nap_us = NAP_MIN_US;
            if let Event::Timer(key) = event {
                w.timers.push_back(key);
                return None;
            }
            Some(event)
        });
        let Some(event) = due else { break };
        with(|w| match event {
            Event::Deliver(sock) => net::deliver(w, sock),
            Event::Connect(attempt) => net::connect_arrives(w, attempt),
            Event::Execute(op) => store::execute(w, op),
            Event::Done(op) => store::done(w, op),
            Event::Timer(_) => {}
        });
        empty_trash();
    }
    let next = with(|w| {
        w.steps += 1;
        w.now += w.rng.below(4);
        let mut ready = std::mem::take(&mut w.ready);
        ready.clear();
        let runs =
            |t: &&SimThread| !t.idle && w.processes.get(&t.process).is_some_and(|p| p.alive && !p.stopped);
        ready.extend(w.threads.values().filter(runs).map(|t| t.id));
        let next = if ready.is_empty() { None } else { Some(w.rng.pick(&ready)) };
        w.ready = ready;
        if next.is_none() {
            nap(w);
        }
        next
    });
    if let Some(thread) = next {
        turn(thread);
    }
    empty_trash();
}

/// Nobody has anything to do: time passes until something happens, or for a while, longer each time.
fn nap(w: &mut World) {
    w.nap_us = (w.nap_us * 3 + w.rng.below(16)).min(1 + w.rng.below(NAP_MAX_US));
    let until = w.now + w.nap_us.max(1);
    w.now = match w.events.first_key_value() {
        Some(((at, _), _)) => until.min((*at).max(w.now)),
        None => until,
    };
    w.threads.values_mut().for_each(|thread| thread.idle = false);
}

/// One turn of an SPDK thread: its messages, then its pollers.
pub(crate) fn turn(thread: u64) {
    let before = with(|w| {
        w.current = Some(thread);
        w.activity
    });
    for _ in 0..MESSAGES_A_TURN {
        let message = with(|w| {
            let message = w.threads.get_mut(&thread)?.messages.pop_front()?;
            w.active();
            Some(message)
        });
        match message {
            Some(message) => message(),
            None => break,
        }
    }
    let due: Vec<u64> = with(|w| {
        let Some(found) = w.threads.get(&thread) else { return Vec::new() };
        let now = w.processes[&found.process].clock(w.now);
        found.pollers.iter().filter(|p| p.period_us == 0 || p.due <= now).map(|p| p.id).collect()
    });
    for id in due {
        let poller = with(|w| {
            let found = w.threads.get_mut(&thread)?;
            let now = w.processes[&found.process].clock(w.now);
            let poller = found.pollers.iter_mut().find(|p| p.id == id)?;
            poller.due = now + poller.period_us;
            poller.f.take()
        });
        let Some(mut f) = poller else { continue };
        f();
        // One that ended itself meanwhile is dropped here, with nothing borrowed.
        let mut f = Some(f);
        with(|w| {
            let pollers = w.threads.get_mut(&thread).map(|found| &mut found.pollers);
            if let Some(poller) = pollers.and_then(|all| all.iter_mut().find(|p| p.id == id)) {
                poller.f = f.take();
            }
        });
        drop(f);
    }
    with(|w| {
        w.current = None;
        let did_nothing = w.activity == before;
        let mut ended = false;
        if let Some(found) = w.threads.get_mut(&thread) {
            found.idle = did_nothing && found.messages.is_empty();
            ended = found.exiting && found.messages.is_empty();
        }
        if ended {
            w.threads.remove(&thread);
        }
        w.digest(thread << 1 | u64::from(did_nothing));
        let now = w.now;
        w.digest(now);
    });
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
