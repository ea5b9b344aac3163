//! Whose data count: the operator decides that by force, and a host that finds nobody who knows of the
//! decision goes on without it.
//!
//! The operator forces the mirror to be assembled from one member while others are away. These may be a
//! majority. If a host finds them later, and none that was used since, it goes on from them, and has to: it
//! can't know. Then it is the member of the decision that has diverged, and is not to be overwritten.

use std::collections::BTreeSet;

use dst_mirror::Generation;
use dst_mirror::report::{Condition, Report};

use crate::owner::target_of;
use crate::plan::Plan;

/// What is known of the last decision, or of the last time that a host went on without one.
#[derive(Debug)]
pub struct Decisions {
    /// The generations of the data that count. Empty: the operator has never decided.
    generations: BTreeSet<Generation>,
    /// Members that hold writes which those whose data count now lack: the operator has decided
    /// against them while they were away. Nothing of theirs is overwritten until the operator says
    /// so while they are there.
    pub diverged: Vec<bool>,
    /// Members that were in sync since then.
    pub aware: Vec<bool>,
    /// For each host, whether its mirror goes on from the data that count. None: no mirror runs there.
    follows: Vec<Option<bool>>,
}

impl Decisions {
    /// Returns those of a plan before anything was decided.
    pub fn new(plan: &Plan) -> Decisions {
        Decisions {
            generations: BTreeSet::new(),
            diverged: vec![false; plan.members],
            aware: vec![false; plan.members],
            follows: vec![None; plan.hosts],
        }
    }

    /// The operator wants a member overwritten, whatever it holds.
    pub fn allow(&mut self, member: usize) {
        self.diverged[member] = false;
    }

    /// A process begins with a mirror.
    pub fn begin(&mut self, host: usize) {
        self.follows[host] = None;
    }

    /// A mirror has another state.
    pub fn observe(&mut self, plan: &Plan, host: usize, report: impl FnOnce() -> Report) {
        if self.generations.is_empty() {
            return;
        }
        let report = report();
        let Some(generation) = report.generation else { return self.begin(host) };
        let follows = *self.follows[host].get_or_insert(self.generations.contains(&generation));
        if follows {
            self.generations.insert(generation);
            for member in report.members.iter().filter(|member| member.condition == Condition::InSync) {
                if let Some(device) = member.device {
                    self.aware[target_of(plan, device)] = true;
                }
            }
        }
    }

    /// Returns whether a mirror goes on from other data than those that count.
    pub fn is_without(&self, host: usize) -> bool {
        self.follows[host] == Some(false)
    }

    /// From now on, the data of a host's mirror are those that count.
    pub fn count(&mut self, host: usize, generation: Option<Generation>) {
        self.generations = generation.into_iter().collect();
        self.aware.fill(false);
        for (of, follows) in self.follows.iter_mut().enumerate() {
            *follows = if of == host { Some(true) } else { follows.map(|_| false) };
        }
    }
}
