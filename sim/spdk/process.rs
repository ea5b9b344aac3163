//! Processes: they start, are stopped and continued, and die.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};

use crate::net;
use crate::store;
use crate::world::{World, empty_trash, set_ghost, turn, with};

/// Turns after which what is left of a dead process is left lying.
const BURIAL_ROUNDS: usize = 60;

pub(crate) type Message = Box<dyn FnOnce()>;

pub(crate) struct PollerEntry {
    pub id: u64,
    pub period_us: u64,
    pub due: u64,
    /// Out while it runs.
    pub f: Option<Box<dyn FnMut() -> bool>>,
}

pub(crate) struct SimThread {
    pub id: u64,
    pub name: String,
    pub process: u32,
    pub core: u32,
    pub messages: VecDeque<Message>,
    pub pollers: Vec<PollerEntry>,
    pub idle: bool,
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
    skew_ppm: i64,
    clock_base: u64,
    /// How often, of a million looks at the clock, it is held up before, and for how long at most, µs.
    pub hiccups: (u64, u64),
    /// Its backends by bdev name.
    pub bdevs: BTreeMap<String, u32>,
    /// What its own backends could not do while it was stopped.
    pub held: Vec<u64>,
    pub descs: BTreeMap<u64, crate::bdev::OpenDesc>,
}

impl Process {
    /// What its clock shows.
    pub fn clock(&self, now: u64) -> u64 {
        // A simulated day is below 2^37 µs: far from overflow.
        let skew = now as i64 * self.skew_ppm / 1_000_000;
        self.clock_base + now.saturating_add_signed(skew)
    }
}

/// Starts a process with so many cores. Gives its number, and that of its app thread.
pub fn start(name: &str, cores: u32, machine: u32, skew_ppm: i64) -> (u32, u64) {
    with(|w| {
        let id = w.id() as u32;
        let clock_base = w.rng.below(1 << 40);
        let process = Process {
            name: name.to_owned(),
            cores,
            machine,
            alive: true,
            stopped: false,
            skew_ppm,
            clock_base,
            hiccups: (0, 0),
            bdevs: BTreeMap::new(),
            held: Vec::new(),
            descs: BTreeMap::new(),
        };
        w.processes.insert(id, process);
        w.note(|| format!("process {id} {name} starts"));
        let app = w.new_thread(id, 0, "app");
        (id, app)
    })
}

impl World {
    pub fn new_thread(&mut self, process: u32, core: u32, name: &str) -> u64 {
        let id = self.id();
        let name = format!("{}/{name}", self.processes[&process].name);
        let thread = SimThread {
            id,
            name,
            process,
            core,
            messages: VecDeque::new(),
            pollers: Vec::new(),
            idle: false,
            exiting: false,
        };
        self.threads.insert(id, thread);
        id
    }

    /// Hands a closure to a thread; gives it back when there is no such thread.
    pub fn post(&mut self, thread: u64, message: Message) -> Option<Message> {
        match self.threads.get_mut(&thread).filter(|t| !t.exiting) {
            Some(thread) => {
                thread.messages.push_back(message);
                thread.idle = false;
                None
            }
            None => Some(message),
        }
    }
}

/// One more SPDK thread of a process.
pub fn add_thread(process: u32, core: u32, name: &str) -> u64 {
    with(|w| w.new_thread(process, core, name))
}

/// Runs `f` on a thread, in its next turn; not at all if that is gone.
pub fn on(thread: u64, f: impl FnOnce() + 'static) {
    let back = with(|w| w.post(thread, Box::new(f)));
    drop(back);
}

/// Whether the process runs.
pub fn is_alive(process: u32) -> bool {
    with(|w| w.processes.get(&process).is_some_and(|p| p.alive))
}

/// Whether the process is stopped.
pub fn is_stopped(process: u32) -> bool {
    with(|w| w.processes.get(&process).is_some_and(|p| p.stopped))
}

/// What a process's clock shows.
pub fn clock(process: u32) -> u64 {
    with(|w| w.processes[&process].clock(w.now))
}

/// Has the process held up in the middle of its turns: before so many of a million looks at its clock.
pub fn set_hiccups(process: u32, per_million: u64, most_us: u64) {
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.hiccups = (per_million, most_us);
        }
    });
}

/// SIGSTOP and SIGCONT. Its sockets go on receiving, as they are the kernel's.
pub fn set_stopped(process: u32, stopped: bool) {
    with(|w| {
        let Some(found) = w.processes.get_mut(&process).filter(|p| p.alive && p.stopped != stopped) else {
            return;
        };
        found.stopped = stopped;
        let held = if stopped { Vec::new() } else { std::mem::take(&mut found.held) };
        w.note(|| format!("process {process} is {}", if stopped { "stopped" } else { "continued" }));
        for op in held {
            store::resume(w, op);
        }
        w.wake(process);
    });
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The kernel closes its sockets.
    Killed,
    /// The machine is gone: nobody hears anything.
    Vanished,
}

/// Ends a process. Nothing that its code does after this has an effect on anybody.
pub fn kill(process: u32, death: Death) {
    with(|w| {
        if !w.processes.get(&process).is_some_and(|p| p.alive) {
            return;
        }
        w.note(|| format!("process {process} dies: {death:?}"));
        if let Some(found) = w.processes.get_mut(&process) {
            found.alive = false;
            if death == Death::Vanished {
                // The machine starts anew, if it does: nobody there knows what was before.
                found.machine = u32::MAX;
            }
        }
        net::process_dies(w, process, death);
        store::process_dies(w, process);
        // Its users are dead with it.
        w.disks.values_mut().filter(|disk| disk.process == process).for_each(|disk| disk.dead = true);
    });
    empty_trash();
    let before = set_ghost(true);
    bury(process);
    set_ghost(before);
}

/// Frees what a dead process has. Connections and their group own each other in the code under test, so it is
/// the code itself that takes them apart: its sockets fail, its backend fails what it has, and it runs for
/// some more turns, heard by nobody.
pub(crate) fn bury(process: u32) {
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.alive = false;
        }
        net::process_dies(w, process, Death::Vanished);
        store::process_dies(w, process);
    });
    for _ in 0..BURIAL_ROUNDS {
        let threads: Vec<u64> =
            with(|w| w.threads.values().filter(|t| t.process == process).map(|t| t.id).collect());
        if !with(|w| {
            net::has_members(w, process)
                || w.threads.values().any(|t| t.process == process && !t.messages.is_empty())
        }) {
            break;
        }
        for thread in threads {
            turn(thread);
        }
        empty_trash();
    }
    let corpse: Vec<Box<dyn Any>> = with(|w| {
        let mut corpse: Vec<Box<dyn Any>> = Vec::new();
        let threads: Vec<u64> = w.threads.values().filter(|t| t.process == process).map(|t| t.id).collect();
        for id in threads {
            corpse.push(Box::new(w.threads.remove(&id)));
        }
        let locals: Vec<_> = w.locals.keys().filter(|(p, ..)| *p == process).copied().collect();
        for key in locals {
            corpse.push(Box::new(w.locals.remove(&key)));
        }
        let disks: Vec<u64> = w.disks.values().filter(|d| d.process == process).map(|d| d.id).collect();
        for id in disks {
            corpse.push(Box::new(w.disks.remove(&id)));
        }
        if let Some(found) = w.processes.get_mut(&process) {
            corpse.push(Box::new(std::mem::take(&mut found.descs)));
        }
        net::forget_process(w, process, &mut corpse);
        corpse
    });
    drop(corpse);
    empty_trash();
}
