//! Identifies each start of a program, and tells whether another one has ended.

use std::cell::Cell;
use std::collections::BTreeMap;

use world::slots::Slot;
use world::{store, with};

/// The number of bytes of an id that all ids of a process share.
const PROCESS: usize = 12;

/// The process of each instance, also of those that have ended, under the first bytes of its ids.
#[derive(Default)]
struct Instances(BTreeMap<[u8; PROCESS], u32>);

impl Slot for Instances {}

/// The instance of this process.
#[derive(Debug)]
pub struct Instance {
    process: [u8; PROCESS],
    next: Cell<u32>,
}

impl Instance {
    /// Creates an instance and makes it known.
    pub fn new() -> Instance {
        let mut process = [0; PROCESS];
        crate::random::fill(&mut process);
        with(|w| {
            if let Some(current) = w.current_process() {
                w.slots.get::<Instances>().0.insert(process, current);
            }
        });
        Instance { process, next: Cell::new(0) }
    }

    /// Returns an id that no process has returned before.
    pub fn next_id(&self) -> [u8; 16] {
        let next = self.next.get();
        self.next.set(next + 1);
        let mut id = [0; 16];
        id[..PROCESS].copy_from_slice(&self.process);
        id[PROCESS..].copy_from_slice(&next.to_le_bytes());
        id
    }

    /// Returns whether this process has returned the id.
    pub fn has_given(&self, id: [u8; 16]) -> bool {
        id[..PROCESS] == self.process
    }

    /// Returns whether the process with this id has surely ended, and with it the I/O that it had
    /// submitted. False: the process is alive, or on another machine.
    pub fn has_ended(&self, other: [u8; 16]) -> bool {
        with(|w| {
            let Some(me) = w.current_process() else { return false };
            let known = &w.slots.get::<Instances>().0;
            let Some(&owner) = known.get(&other[..PROCESS]) else { return false };
            w.are_on_one_machine(me, owner) && !w.is_alive(owner) && !store::has_business(w, owner)
        })
    }
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::new()
    }
}
