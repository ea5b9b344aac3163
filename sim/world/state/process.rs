//! Processes and their threads.

use std::collections::VecDeque;
use std::rc::Rc;

/// What a thread is to do once.
pub type Message = Box<dyn FnOnce()>;

/// What a thread calls again and again; whether there was work.
pub type Call = Box<dyn FnMut() -> bool>;

/// A closure that a thread calls again and again.
pub(crate) struct Periodic {
    pub id: u64,
    /// 0: in every turn.
    pub period_us: u64,
    /// When next, on the process's clock.
    pub due: u64,
    /// Out while it runs.
    pub call: Option<Call>,
}

pub(crate) struct Thread {
    pub id: u64,
    pub name: Rc<str>,
    pub process: u32,
    pub core: u32,
    pub messages: VecDeque<Message>,
    pub periodics: Vec<Periodic>,
    /// Nothing was done in its last turn, and nothing has come since.
    pub idle: bool,
    /// It has no turn before, as something else keeps it.
    pub away_until_us: u64,
    pub exiting: bool,
}

pub(crate) struct Process {
    pub name: String,
    pub cores: u32,
    /// Two processes on one machine can tell whether the other has ended.
    pub machine: u32,
    pub alive: bool,
    pub stopped: bool,
    /// How much its clock is faster, parts per million.
    pub skew_ppm: i64,
    /// What its clock showed at the beginning of the world.
    pub clock_base: u64,
    /// How often, of a million looks at the clock, it is held up before, and for how long at most,
    /// µs.
    pub hiccups: (u64, u64),
    /// Operations that its own stores could not go on with while it was stopped.
    pub held: Vec<u64>,
}

impl Process {
    /// Returns what its clock shows, µs.
    pub fn clock(&self, now: u64) -> u64 {
        // A simulated day is below 2^37 µs: far from overflow.
        let skew = now as i64 * self.skew_ppm / 1_000_000;
        self.clock_base + now.saturating_add_signed(skew)
    }
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The kernel closes its sockets.
    Killed,
    /// The machine is gone: nobody hears anything.
    Vanished,
}
