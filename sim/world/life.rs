//! The beginning and end of worlds; the start, stop and death of processes.

use std::any::Any;

use crate::net::{connecting, ownership};
pub use crate::state::process::Death;
use crate::state::process::Process;
use crate::store::operations;
use crate::turn::turn;
use crate::world::{World, empty_trash, replace, set_ghost, with};

/// The number of rounds of turns after which the remains of a dead process are dropped as they are.
const BURIAL_ROUNDS: usize = 60;

/// Begins an empty world with this seed. With `history`, the world keeps the last lines of what
/// happens.
pub fn begin(seed: u64, history: bool) {
    end();
    replace(World::new(seed, history));
}

/// Ends the world. Everything in it is dropped.
pub fn end() {
    set_ghost(true);
    let processes: Vec<u32> = with(|w| w.processes.keys().copied().collect());
    for process in processes {
        bury(process);
    }
    empty_trash();
    replace(World::new(0, false));
}

/// Starts a process with this many cores. Returns the process's number and that of its first
/// thread.
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
            pauses: (0, 0),
            held: Vec::new(),
        };
        w.processes.insert(id, process);
        w.note(|| format!("process {id} {name} starts"));
        let app = w.add_thread(id, 0, "app");
        (id, app)
    })
}

/// Stops or continues a process, as SIGSTOP and SIGCONT do. The process's sockets still receive,
/// because they are the kernel's.
pub fn set_stopped(process: u32, stopped: bool) {
    with(|w| {
        let Some(found) = w.processes.get_mut(&process).filter(|p| p.alive && p.stopped != stopped) else {
            return;
        };
        found.stopped = stopped;
        let held = if stopped { Vec::new() } else { std::mem::take(&mut found.held) };
        w.tell_threads(process);
        w.note(|| format!("process {process} is {}", if stopped { "stopped" } else { "continued" }));
        for operation in held {
            operations::resume(w, operation);
        }
        w.wake(process);
    });
}

/// Kills a process. Nothing that its code does afterwards has an effect on anything else.
pub fn kill(process: u32, death: Death) {
    with(|w| {
        if !w.is_alive(process) {
            return;
        }
        w.note(|| format!("process {process} dies: {death:?}"));
        if let Some(found) = w.processes.get_mut(&process) {
            found.alive = false;
            if death == Death::Vanished {
                // If the machine starts again, nobody there knows what ran before.
                found.machine = u32::MAX;
            }
        }
        w.tell_threads(process);
        ownership::process_dies(w, process, death);
        operations::process_dies(w, process);
    });
    empty_trash();
    let before = set_ghost(true);
    bury(process);
    set_ghost(before);
}

/// Frees what a dead process has. Its sockets and their owners may refer to each other, so the
/// process's own code takes them apart: its sockets fail, its stores fail its operations, and the
/// process runs for some more turns that have no effect on anything else.
fn bury(process: u32) {
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.alive = false;
        }
        w.tell_threads(process);
        ownership::process_dies(w, process, Death::Vanished);
        operations::process_dies(w, process);
    });
    for _ in 0..BURIAL_ROUNDS {
        let threads: Vec<u64> =
            with(|w| w.threads.iter().filter(|t| t.process == process).map(|t| t.id).collect());
        let is_over = with(|w| {
            !w.slots.is_in_use(process)
                && w.threads.iter().all(|t| t.process != process || t.messages.is_empty())
        });
        if is_over {
            break;
        }
        for thread in threads {
            turn(thread);
        }
        empty_trash();
    }
    let corpse: Vec<Box<dyn Any>> = with(|w| {
        let mut corpse: Vec<Box<dyn Any>> = Vec::new();
        let threads: Vec<u64> = w.threads.iter().filter(|t| t.process == process).map(|t| t.id).collect();
        for id in threads {
            corpse.push(Box::new(w.threads.remove(id)));
        }
        corpse.extend(w.slots.take(process));
        connecting::process_ends(w, process);
        corpse
    });
    drop(corpse);
    empty_trash();
}
