//! Processes and their threads.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A closure that a thread runs once.
pub type Message = Box<dyn FnOnce()>;

/// A closure that a thread calls repeatedly. Returns whether it found work.
pub type Call = Box<dyn FnMut() -> bool>;

/// A registration of a closure that a thread calls repeatedly.
pub(crate) struct Periodic {
    pub id: u64,
    /// The period, in µs; 0: every turn.
    pub period_us: u64,
    /// The time of the next call, on the process's clock.
    pub due: u64,
    /// The closure; `None` while it runs.
    pub call: Option<Call>,
}

pub(crate) struct Thread {
    pub id: u64,
    pub name: Rc<str>,
    pub process: u32,
    pub core: u32,
    pub messages: VecDeque<Message>,
    pub periodics: Vec<Periodic>,
    /// Whether its process is alive and not stopped, which is looked at in each step.
    pub runs: bool,
    /// Whether the thread did nothing in its last turn and has received nothing since.
    pub idle: bool,
    /// It has no turn before, as something else keeps it.
    pub away_until_us: u64,
    pub exiting: bool,
}

/// All threads, in the order of their ids. They are few, and all are looked at in each step, for which
/// a list takes half the time that a map takes.
#[derive(Default)]
pub(crate) struct Threads {
    all: Vec<Thread>,
    /// The place of the thread that was last asked for: in a turn, it is mostly the same one.
    last: Cell<usize>,
}

impl Threads {
    /// Adds a thread, whose id is larger than those of all others.
    pub fn push(&mut self, thread: Thread) {
        assert!(self.all.last().is_none_or(|last| last.id < thread.id), "ids grow");
        self.all.push(thread);
    }

    fn place(&self, id: u64) -> Option<usize> {
        if self.all.get(self.last.get()).is_none_or(|last| last.id != id) {
            self.last.set(self.all.binary_search_by_key(&id, |thread| thread.id).ok()?);
        }
        Some(self.last.get())
    }

    pub fn get(&self, id: u64) -> Option<&Thread> {
        Some(&self.all[self.place(id)?])
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Thread> {
        let place = self.place(id)?;
        Some(&mut self.all[place])
    }

    pub fn remove(&mut self, id: u64) -> Option<Thread> {
        Some(self.all.remove(self.place(id)?))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Thread> {
        self.all.iter()
    }

    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Thread> {
        self.all.iter_mut()
    }
}

pub(crate) struct Process {
    pub name: String,
    pub cores: u32,
    /// The machine that the process runs on. On the same machine, a process can tell whether
    /// another has ended.
    pub machine: u32,
    pub alive: bool,
    pub stopped: bool,
    /// How much faster the process's clock runs, in parts per million.
    pub skew_ppm: i64,
    /// What the process's clock showed at the beginning of the world.
    pub clock_base: u64,
    /// How often the process is held up, per million reads of its clock, and for how long at most,
    /// in µs.
    pub hiccups: (u64, u64),
    /// How often the process is held up while its user goes on after a completion, per thousand, and
    /// for how long at most, in µs.
    pub pauses: (u64, u64),
    /// Operations of the process's own stores that could not proceed while the process was stopped.
    pub held: Vec<u64>,
}

impl Process {
    /// Returns whether its threads have turns.
    pub fn runs(&self) -> bool {
        self.alive && !self.stopped
    }

    /// Returns the time on the process's clock, in µs.
    pub fn clock(&self, now: u64) -> u64 {
        // A simulated day is below 2^37 µs: far from overflow.
        let skew = now as i64 * self.skew_ppm / 1_000_000;
        self.clock_base + now.saturating_add_signed(skew)
    }
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process ends and the kernel closes its sockets.
    Killed,
    /// The machine fails: no peer is told.
    Vanished,
}
