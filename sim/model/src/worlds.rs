//! The worlds: each has a few features, and is small enough for all its states to be visited.

use dst_session::access::Access::ReadWrite;
use dst_wire::Op::{self, CompareAndWrite, Write};

use crate::ledger::Scripted;
use crate::world::{Faults, Threads, World};

fn script(ios: &[(u8, u16, Op)]) -> Vec<Scripted> {
    ios.iter().map(|&(host, queue, op)| Scripted { host, queue, op }).collect()
}

/// One client with one queue; nothing happens.
fn quiet(name: &'static str, about: &'static str) -> World {
    World {
        name,
        about,
        hosts: vec![ReadWrite],
        queues: 1,
        credits: 1,
        script: Vec::new(),
        faults: Faults::NONE,
        threads: Threads::InStep,
        targets: 1,
        is_one_machine: true,
        has_time: false,
        keep_alives: 0,
        keep_alive_ms: 100,
        session_timeout_ms: 60_000,
        max_sessions: 4,
    }
}

/// A queue loses its connections, and late frames come from older ones.
fn fence() -> World {
    World {
        credits: 2,
        script: script(&[(0, 1, Write), (0, 1, CompareAndWrite)]),
        faults: Faults { connects: 3, losses: 2, ..Faults::NONE },
        threads: Threads::Apart,
        ..quiet("fence", "a queue loses its connection twice, and comes back while old frames are under way")
    }
}

/// Returns the worlds of which all states are visited in seconds.
pub fn small() -> Vec<World> {
    vec![fence()]
}

/// Returns the worlds that are too large for that.
pub fn large() -> Vec<World> {
    Vec::new()
}
