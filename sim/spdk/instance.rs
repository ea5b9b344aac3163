//! Which start of a program this is, and whether another one has ended.

use crate::world::with;

/// This process's start.
#[derive(Debug)]
pub struct Instance {
    id: [u8; 16],
}

impl Instance {
    /// Makes this process known.
    pub fn new() -> Instance {
        let mut id = [0; 16];
        crate::random::fill(&mut id);
        with(|w| {
            if let Some(process) = w.current_process() {
                w.instances.insert(id, process);
            }
        });
        Instance { id }
    }

    /// Unique to this start.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Whether the process with this id has surely ended, and the I/O that it had with it. `false`: it lives,
    /// or is on another machine.
    pub fn has_ended(&self, other: [u8; 16]) -> bool {
        with(|w| {
            let Some(me) = w.current_process().and_then(|p| w.processes.get(&p)) else { return false };
            let Some(&owner) = w.instances.get(&other) else { return false };
            let Some(process) = w.processes.get(&owner) else { return false };
            process.machine == me.machine && !process.alive && !w.ops.values().any(|op| op.process == owner)
        })
    }
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::new()
    }
}
