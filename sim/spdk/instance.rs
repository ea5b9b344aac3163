//! Identifies each start of a program, and tells whether another one has ended.

use std::collections::BTreeMap;

use world::slots::Slot;
use world::{store, with};

/// The process of each instance, also of those that have ended.
#[derive(Default)]
struct Instances(BTreeMap<[u8; 16], u32>);

impl Slot for Instances {}

/// The instance of this process.
#[derive(Debug)]
pub struct Instance {
    id: [u8; 16],
}

impl Instance {
    /// Creates an instance and makes it known.
    pub fn new() -> Instance {
        let mut id = [0; 16];
        crate::random::fill(&mut id);
        with(|w| {
            if let Some(process) = w.current_process() {
                w.slots.get::<Instances>().0.insert(id, process);
            }
        });
        Instance { id }
    }

    /// Returns the id, which is unique to this start.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Returns whether the process with this id has surely ended, and with it the I/O that it had
    /// submitted. False: the process is alive, or on another machine.
    pub fn has_ended(&self, other: [u8; 16]) -> bool {
        with(|w| {
            let Some(me) = w.current_process() else { return false };
            let Some(&owner) = w.slots.get::<Instances>().0.get(&other) else { return false };
            w.are_on_one_machine(me, owner) && !w.is_alive(owner) && !store::has_business(w, owner)
        })
    }
}

impl Default for Instance {
    fn default() -> Instance {
        Instance::new()
    }
}
