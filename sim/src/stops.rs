//! Targets that stop in order, leave a note, and are started again.

use std::path::Path;

use spdk::durable_file;
use world::rng::Rng;

use crate::plan::{Fault, Plan};
use crate::promises::p6_flush_means_flush as p6;

/// The longest note that is looked for, in bytes.
const NOTE_MAX: usize = 4096;

/// Returns the file for the note of a target.
pub fn note_file(target: usize) -> String {
    format!("/note{target}")
}

/// Checks that a target that has just read its note has removed it.
pub fn check_note_is_gone(file: &str) {
    if !matches!(durable_file::read(Path::new(file), NOTE_MAX), Ok(None)) {
        world::violation(p6::FLUSH, format!("note {file} is there after a start has used it"));
    }
}

impl Plan {
    /// Has targets told to stop while their caches hold much, which the machine may lose after that.
    pub(crate) fn end_targets(&mut self, r: &mut Rng) {
        (self.notes, self.write_cache) = (true, true);
        // A target whose backend has failed a flush before leaves no note.
        self.errors = 0;
        // I/O goes on until the last fault is over.
        (self.paced, self.ios) = (true, self.ios.max(200));
        let count = r.range(1, 3);
        let each_us = self.length_us / count;
        for number in 0..count {
            let at = number * each_us + r.below(each_us / 2);
            let fault = Fault::EndTarget {
                target: r.index(self.targets),
                errors: r.pick(&[0, 1000]),
                lose: r.chance(800),
                for_us: r.range(5_000, 300_000),
            };
            self.faults.push((at, fault));
        }
        self.faults.sort_by_key(|(at, _)| *at);
        if r.chance(500) {
            self.stop_in_peace();
        }
    }

    /// Leaves out all faults but stops, each of which has the time that it needs. So no
    /// compare-and-write fails.
    fn stop_in_peace(&mut self) {
        self.faults.retain(|(_, fault)| matches!(fault, Fault::EndTarget { .. }));
        for (_, fault) in &mut self.faults {
            if let Fault::EndTarget { errors, for_us, .. } = fault {
                (*errors, *for_us) = (0, 300_000.max(*for_us));
            }
        }
        self.keep_alive_ms = 400;
        self.net.delay_us = self.net.delay_us.min(2000);
    }
}
