//! What follows from whose data count: what blocks hold, and which members must not be overwritten.

use dst_mirror::report::{Condition, MemberReport};

use crate::checks;
use crate::owner::target_of;
use crate::state::Run;

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
