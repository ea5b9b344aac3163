//! Whose data count: the operator decides that by force, and a host that finds nobody who knows of the
//! decision goes on without it.
//!
//! The operator forces the mirror to be assembled from one member while others are away. These may be a
//! majority. If a host finds them later, and none that was used since, it goes on from them, and has to: it
//! can't know. Then it is the member of the decision that has diverged, and is not to be overwritten.

use std::collections::BTreeSet;

use dst_mirror::Generation;
use dst_mirror::report::{Condition, MemberReport, Report};

use crate::checks;
use crate::owner::target_of;
use crate::plan::Plan;
use crate::state::Run;

/// What is known of the last decision, or of the last time that a host went on without one.
#[derive(Debug)]
pub struct Decisions {
    /// The generations of the data that count. Empty: the operator has never decided.
    generations: BTreeSet<Generation>,
    /// Members that hold writes which those whose data count now lack: the operator has decided
    /// against them while they were away. Nothing of theirs is overwritten until the operator says
    /// so while they are there.
    diverged: Vec<bool>,
    /// Members that were in sync since then.
    aware: Vec<bool>,
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
    fn is_without(&self, host: usize) -> bool {
        self.follows[host] == Some(false)
    }

    /// From now on, the data of a host's mirror are those that count.
    fn count(&mut self, host: usize, generation: Option<Generation>) {
        self.generations = generation.into_iter().collect();
        self.aware.fill(false);
        for (of, follows) in self.follows.iter_mut().enumerate() {
            *follows = if of == host { Some(true) } else { follows.map(|_| false) };
        }
    }
}

impl Run {
    /// Returns whether a mirror must not write data to a member.
    pub(crate) fn is_protected(&self, host: usize, member: usize) -> bool {
        let is_forced = self.owners[host].as_ref().is_some_and(|owner| owner.forced.is_some());
        match self.decisions.is_without(host) {
            // What the operator forces counts once the mirror can be used.
            true => self.decisions.aware[member] && !is_forced,
            false => self.decisions.diverged[member],
        }
    }

    /// A mirror can be used. Returns whether what blocks hold has been decided by that.
    pub(crate) fn decide(&mut self, host: usize, now: u64) -> bool {
        let Some(owner) = &self.owners[host] else { return false };
        let report = owner.mirror.report();
        let source = match owner.forced {
            Some(forced) => {
                // What is there is overwritten, as the operator has said; what is away is not.
                for member in 0..self.plan.members {
                    let is_there =
                        member == forced || self.owners[host].as_ref().is_some_and(|o| o.opened[member]);
                    self.decisions.diverged[member] = !is_there
                        && (self.decisions.diverged[member] || checks::is_newer(self, member, forced));
                }
                forced
            }
            None if self.decisions.is_without(host) => {
                self.world.note(|| format!("host {host}: goes on without the operator's decision"));
                let is_used = |member: &&MemberReport| {
                    matches!(member.condition, Condition::InSync | Condition::Resyncing { .. })
                };
                let device = |member: &MemberReport| member.device.map(|of| target_of(&self.plan, of));
                let used: Vec<usize> = report.members.iter().filter(is_used).filter_map(device).collect();
                for member in 0..self.plan.members {
                    self.decisions.diverged[member] = self.decisions.aware[member] && !used.contains(&member);
                }
                let all = checks::in_sync(&self.plan, owner);
                let Some(source) = all.iter().position(|is| *is) else { return false };
                source
            }
            None => return false,
        };
        for block in self.model.known() {
            if let Some(value) = self.world.targets[source].disk.write_at(block) {
                self.model.force(block, value, now);
            }
        }
        self.in_sync.fill(false);
        self.decisions.count(host, report.generation);
        true
    }
}
