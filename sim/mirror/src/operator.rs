//! What an operator, or a cluster manager, does.

use dst_mirror::Input;
use dst_mirror::report::{Condition, State};

use crate::owner::Owner;
use crate::state::{Run, Stage};

impl Run {
    /// Does what an operator, or a cluster manager, does: drops mirrors that are lost, and has a
    /// host assemble the mirror if none has it.
    pub(crate) fn operate(&mut self) {
        let now = self.world.now;
        for host in 0..self.plan.hosts {
            let is_over = self.owners[host].as_ref().is_some_and(|owner| owner.ended && owner.ios.is_empty());
            let at = &self.world.hosts[host];
            if is_over && at.alive && !at.stopped {
                self.world.hosts[host].wants = false;
                self.tell(host, Input::Stop { wipe: false });
            }
        }
        if self.stage != Stage::Faults {
            // What another host took in vain goes to the one that has the mirror.
            for host in 0..self.plan.hosts {
                let is_it =
                    self.owners[host].as_ref().is_some_and(|owner| owner.is_usable() && !owner.superseded);
                self.world.hosts[host].takes |= is_it;
            }
        }
        if self.stage != Stage::Faults && self.plan.changes && self.complete_members() {
            // Whether a member has diverged, is seen when all are members.
        } else if self.stage != Stage::Faults && self.is_split() {
            // The operator decides for the member that is in use, or was last, while all are there.
            let host = (0..self.plan.hosts).find(|&host| {
                self.owners[host].as_ref().is_some_and(|owner| owner.is_usable() || has_diverged(owner))
            });
            let member = self.in_sync.iter().position(|is| *is);
            if let (Some(host), true) = (host, now > self.idle_since + 3_000_000) {
                self.force(host, member.unwrap_or(0));
            }
        } else if self.owners.iter().flatten().any(|owner| owner.is_usable() && !owner.superseded) {
            self.idle_since = now;
        } else if now > self.idle_since + 3_000_000 {
            self.idle_since = now;
            let able: Vec<usize> = (0..self.plan.hosts)
                .filter(|&host| self.world.hosts[host].alive && !self.world.hosts[host].stopped)
                .filter(|&host| self.created || host == 0)
                .collect();
            if able.is_empty() {
                return;
            }
            let host = self.world.rng.pick(&able);
            let member = self.world.rng.index(self.plan.members);
            if self.has_takers && self.stage == Stage::Faults && now > self.trouble_us + 2_000_000 {
                return self.violate("10", "hosts have taken the mirror over, and none has it".to_owned());
            }
            let may_force =
                self.created && (self.plan.forces || self.stage != Stage::Faults && self.is_forced);
            match &self.owners[host] {
                None => self.own(host, true, None),
                Some(owner) if owner.ended => {}
                Some(owner) if may_force && owner.opened[member] => self.force(host, member),
                Some(_) => {
                    self.world.hosts[host].takes = true;
                    self.world.open_all(host);
                }
            }
        }
    }

    /// Returns whether a mirror that is in use sees a member that it must not use. Where members are
    /// removed, also whether one is not assembled since its members have diverged: rule 8 lets that
    /// happen if hosts die in removals.
    fn is_split(&self) -> bool {
        self.plan.changes && self.owners.iter().flatten().any(has_diverged)
            || (0..self.plan.hosts).any(|host| {
                let owner = self.owners[host].as_ref().filter(|owner| owner.is_usable() && !owner.superseded);
                owner.is_some_and(|owner| {
                    let members = owner.mirror.report().members;
                    members.iter().any(|member| match &member.condition {
                        Condition::Unusable { .. } => true,
                        // The name is that of the target, which is open and not used.
                        Condition::Missing { .. } => {
                            let target = member.name[1..].parse().unwrap_or(0);
                            self.world.is_open(host, target)
                        }
                        _ => false,
                    })
                })
            })
    }

    /// The operator decides whose data count.
    fn force(&mut self, host: usize, member: usize) {
        self.is_forced = true;
        self.world.crash(host);
        self.abandon(host);
        let process = self.next_process;
        self.next_process += 1;
        self.world.start(host, process);
        self.own(host, true, Some(member));
    }

    /// A standby takes the mirror over.
    pub(crate) fn take_over(&mut self, host: usize) {
        let at = &self.world.hosts[host];
        if at.alive && !at.stopped && self.owners[host].is_none() && self.created {
            self.own(host, true, None);
        }
    }
}

/// Returns whether a mirror waits for somebody who decides whose data count.
fn has_diverged(owner: &Owner) -> bool {
    matches!(owner.mirror.report().state, State::Starting { why } if why.contains("have diverged"))
}
