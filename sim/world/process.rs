//! Threads of processes: their messages, the closures that they call repeatedly, and their clocks.

use std::collections::VecDeque;

pub use crate::state::process::{Call, Message};
use crate::state::process::{Periodic, Thread};
use crate::world::{World, with};

impl World {
    /// Starts another thread of a process on one of the process's cores. Returns its number.
    pub fn add_thread(&mut self, process: u32, core: u32, name: &str) -> u64 {
        let id = self.id();
        let name = format!("{}/{name}", self.processes[&process].name).into();
        let runs = self.processes[&process].runs();
        let (messages, periodics) = (VecDeque::new(), Vec::new());
        let thread = Thread {
            id,
            name,
            process,
            core,
            messages,
            periodics,
            runs,
            idle: false,
            away_until_us: 0,
            exiting: false,
        };
        self.threads.push(thread);
        id
    }

    /// Sends a closure to a thread. Returns the closure if the thread does not exist.
    pub fn post(&mut self, thread: u64, message: Message) -> Option<Message> {
        match self.threads.get_mut(thread).filter(|t| !t.exiting) {
            Some(thread) => {
                thread.messages.push_back(message);
                thread.idle = false;
                None
            }
            None => Some(message),
        }
    }

    /// Sends a closure as [`World::post`] does, but drops it if the thread does not exist.
    pub(crate) fn tell(&mut self, thread: u64, message: Message) {
        if let Some(message) = self.post(thread, message) {
            self.discard(message);
        }
    }

    /// Returns the process that a thread belongs to.
    pub fn process_of(&self, thread: u64) -> Option<u32> {
        self.threads.get(thread).map(|thread| thread.process)
    }

    /// Returns the current process and the core of the current thread.
    pub fn current_core(&self) -> Option<(u32, u32)> {
        let thread = self.threads.get(self.current?)?;
        Some((thread.process, thread.core))
    }

    /// Returns the number of cores of a process.
    pub fn cores(&self, process: u32) -> u32 {
        self.processes[&process].cores
    }

    /// Ends a thread after the messages that it has so far. The thread must have no periodic
    /// closures.
    pub fn exit(&mut self, thread: u64) {
        if let Some(thread) = self.threads.get_mut(thread) {
            assert!(thread.periodics.is_empty(), "a thread exits that calls something again and again");
            thread.exiting = true;
        }
    }

    /// Has the current thread call a closure every `period_us`; 0: in every turn. Returns the
    /// thread and a number for [`World::remove_periodic`].
    ///
    /// # Errors
    ///
    /// No thread is running; the closure is returned.
    pub fn add_periodic(&mut self, period_us: u64, call: Call) -> Result<(u64, u64), Call> {
        let Some(thread) = self.current.and_then(|thread| self.threads.get(thread)) else {
            return Err(call);
        };
        let (thread, process) = (thread.id, thread.process);
        let id = self.id();
        let due = self.processes[&process].clock(self.now) + period_us;
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.periodics.push(Periodic { id, period_us, due, call: Some(call) });
        }
        Ok((thread, id))
    }

    /// Removes a closure that [`World::add_periodic`] added. Returns the closure unless it is
    /// running.
    pub fn remove_periodic(&mut self, thread: u64, id: u64) -> Option<Call> {
        let periodics = &mut self.threads.get_mut(thread)?.periodics;
        let at = periodics.iter().position(|periodic| periodic.id == id)?;
        periodics.remove(at).call
    }

    /// Returns the time on the current process's clock, in µs. The process may be held up first.
    /// That can happen between any two instructions, and matters only where the process reads its
    /// clock next.
    pub fn look_at_clock(&mut self) -> u64 {
        let Some(process) = self.current_process() else { return self.now };
        let (per_million, most_us) = self.processes[&process].hiccups;
        self.may_hold_up(per_million, 1_000_000, most_us);
        self.processes[&process].clock(self.now)
    }

    /// Returns the time on the current process's clock, in µs, when its user goes on after a
    /// completion. The process may be held up first, and need not read its clock afterwards.
    pub fn go_on(&mut self) -> u64 {
        let Some(process) = self.current_process() else { return self.now };
        let (per_thousand, most_us) = self.processes[&process].pauses;
        self.may_hold_up(per_thousand, 1000, most_us);
        self.processes[&process].clock(self.now)
    }

    /// Holds the world up in `often` of `of` calls, for up to `most_us`.
    fn may_hold_up(&mut self, often: u64, of: u64, most_us: u64) {
        if often > 0 && self.rng.below(of) < often {
            let held_up_us = self.rng.below(most_us);
            self.now += held_up_us;
            self.held_up_us += held_up_us;
            self.note(|| format!("held up for {held_up_us} us"));
        }
    }

    /// Returns whether two processes are on one machine, so that each can tell whether the other is
    /// alive.
    pub fn are_on_one_machine(&self, one: u32, other: u32) -> bool {
        match (self.processes.get(&one), self.processes.get(&other)) {
            (Some(one), Some(other)) => one.machine == other.machine,
            _ => false,
        }
    }
}

/// Starts another thread of a process. Returns its number.
pub fn add_thread(process: u32, core: u32, name: &str) -> u64 {
    with(|w| w.add_thread(process, core, name))
}

/// Runs `f` on a thread in the thread's next turn, or not at all if the thread is gone.
pub fn on(thread: u64, f: impl FnOnce() + 'static) {
    let back = with(|w| w.post(thread, Box::new(f)));
    drop(back);
}

/// A thread has no turn for a time, while others of its process have.
pub fn hold_up(thread: u64, for_us: u64) {
    with(|w| {
        let until_us = w.now + for_us;
        if let Some(thread) = w.threads.get_mut(thread) {
            thread.away_until_us = until_us;
        }
    });
}

/// Returns whether a process is alive.
pub fn is_alive(process: u32) -> bool {
    with(|w| w.is_alive(process))
}

/// Returns whether a process is stopped.
pub fn is_stopped(process: u32) -> bool {
    with(|w| w.processes.get(&process).is_some_and(|p| p.stopped))
}

/// Returns the time on a process's clock, in µs.
pub fn clock(process: u32) -> u64 {
    with(|w| w.processes[&process].clock(w.now))
}

/// Sets how often a process is held up while its user goes on after a completion, per thousand, and
/// for how long at most, in µs.
pub fn set_pauses(process: u32, per_thousand: u64, most_us: u64) {
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.pauses = (per_thousand, most_us);
        }
    });
}

/// Sets how often a process is held up in the middle of its turns, per million reads of its clock,
/// and for how long at most, in µs.
pub fn set_hiccups(process: u32, per_million: u64, most_us: u64) {
    with(|w| {
        if let Some(found) = w.processes.get_mut(&process) {
            found.hiccups = (per_million, most_us);
        }
    });
}
