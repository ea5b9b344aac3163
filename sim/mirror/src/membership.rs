//! Members and a witness that an operator adds and removes, and what must be true of them: a change that
//! was answered outlives every crash.

use dst_mirror::report::{Condition, MemberReport, State, WitnessReport};
use dst_mirror::{Input, MemberId};

use crate::owner::device_of;
use crate::state::Run;
use crate::world::Event;

/// Returns the target of a member, whose name has its number.
fn target(member: &MemberReport) -> usize {
    member.name[1..].parse().expect("the simulator names members by their targets")
}

impl Run {
    /// Returns the host whose mirror is in use.
    pub(crate) fn user(&self) -> Option<usize> {
        (0..self.plan.hosts).find(|&host| {
            let at = &self.world.hosts[host];
            let is_it = |owner: &crate::owner::Owner| owner.is_usable() && !owner.superseded;
            at.alive && !at.stopped && self.owners[host].as_ref().is_some_and(is_it)
        })
    }

    /// Returns the id of the member on a target, if there is one.
    fn member_on(&self, host: usize, of: usize) -> Option<MemberId> {
        let members = self.owners[host].as_ref()?.mirror.report().members;
        let found =
            members.iter().find(|member| member.condition != Condition::Detached && target(member) == of);
        found.map(|member| member.id)
    }

    /// Returns whether a target is a member's, or the witness's, as a mirror shows.
    fn has_target(&self, host: usize, target: usize) -> bool {
        match target == self.plan.members {
            true => self.witness(host).is_some(),
            false => self.member_on(host, target).is_some(),
        }
    }

    fn witness(&self, host: usize) -> Option<WitnessReport> {
        self.owners[host].as_ref()?.mirror.report().witness
    }

    /// Returns whether a mirror is lost when another host takes a target: unless the target is no member's, as
    /// a mirror in use knows. One that is being assembled may know, if that was answered before.
    pub(crate) fn misses(&self, host: usize, target: usize) -> bool {
        let is_usable = self.owners[host].as_ref().is_some_and(|owner| owner.is_usable());
        match is_usable {
            true => self.has_target(host, target),
            false => self.expected[target] != Some(false),
        }
    }

    /// The operator removes a member.
    pub(crate) fn remove_member(&mut self, member: usize) {
        let Some(host) = self.user() else { return };
        let Some(id) = self.member_on(host, member).filter(|_| self.may_change(host)) else { return };
        self.begin_change(host, member, false);
        self.tell(host, Input::RemoveMember { id });
    }

    /// The operator removes the witness.
    pub(crate) fn remove_witness(&mut self) {
        let Some(host) = self.user() else { return };
        if self.witness(host).is_some() && self.may_change(host) {
            self.begin_change(host, self.plan.members, false);
            self.tell(host, Input::RemoveWitness);
        }
    }

    /// Returns whether a mirror has no change at the moment.
    fn may_change(&self, host: usize) -> bool {
        self.owners[host].as_ref().is_some_and(|owner| owner.changing.is_none() && owner.to_add.is_none())
    }

    fn begin_change(&mut self, host: usize, member: usize, becomes: bool) {
        self.world.note(|| format!("host {host}: target {member} is to be a member: {becomes}"));
        self.expected[member] = None;
        if let Some(owner) = &mut self.owners[host] {
            owner.changing = Some((member, becomes));
        }
    }

    /// The operator adds a member, or the witness: its target is opened anew, and taken back if another
    /// host took it.
    pub(crate) fn add_member(&mut self, member: usize) {
        let Some(host) = self.user() else { return };
        if self.has_target(host, member)
            || !self.may_change(host)
            || self.world.hosts[host].unreachable[member]
        {
            return;
        }
        if let Some(owner) = &mut self.owners[host] {
            owner.to_add = Some(member);
        }
        if self.world.is_open(host, member) {
            return self.world.vanish(host, member, 1_000);
        }
        let at = &mut self.world.hosts[host];
        at.had[member] = false;
        let process = at.process;
        self.world.after(1_000, Event::Attach { host, process, target: member });
    }

    /// The target of a new member is opened.
    pub(crate) fn begin_adding(&mut self, host: usize, member: usize) {
        let Some(owner) = &mut self.owners[host] else { return };
        owner.to_add = None;
        if !owner.is_usable() || owner.superseded || self.has_target(host, member) {
            return;
        }
        self.begin_change(host, member, true);
        if member == self.plan.members {
            let name = "w".to_owned();
            return self.tell(host, Input::AddWitness { name, force: true, is_open: false });
        }
        // Whatever it holds, the operator wants it overwritten.
        self.decisions.allow(member);
        let device = device_of(&self.plan, member);
        let name = format!("m{member}");
        self.tell(host, Input::AddMember { device, name, force: true, is_open: false });
    }

    /// A mirror has answered a change.
    pub(crate) fn changed(&mut self, host: usize, result: Result<(), String>) {
        self.world.note(|| format!("host {host}: the change is answered: {result:?}"));
        let Some(owner) = &mut self.owners[host] else { return };
        let Some((member, becomes)) = owner.changing.take() else { return };
        if owner.superseded {
            return;
        }
        match result {
            Ok(()) => {
                self.totals.changes += 1;
                self.expected[member] = Some(becomes);
            }
            // Whether it counts, the next assembly shows. The answer comes before the news of the end.
            Err(_) if !owner.is_usable() || matches!(owner.mirror.report().state, State::Ended { .. }) => {}
            Err(_) => self.expected[member] = Some(self.has_target(host, member)),
        }
    }

    /// A mirror was assembled: it has the members that it had, but for what was being changed, or if it has
    /// been decided whose data count.
    pub(crate) fn check_members(&mut self, host: usize, is_decided: bool) {
        for member in 0..self.plan.targets() {
            let is = self.has_target(host, member);
            if !is_decided && self.expected[member].is_some_and(|was| was != is) {
                self.violate("2", format!("target {member} is a member: {is}, other than answered before"));
            }
            self.expected[member] = Some(is);
        }
    }

    /// At the end the operator wants all members: adds those that were removed, and removes one whose target
    /// does not know that it is a member. So for the witness. Returns whether there is such a one.
    pub(crate) fn complete_members(&mut self) -> bool {
        let Some(host) = self.user() else { return false };
        if !self.may_change(host) {
            return true;
        }
        let Some(report) = self.owners[host].as_ref().map(|owner| owner.mirror.report()) else {
            return false;
        };
        for member in 0..self.plan.members {
            let found = report
                .members
                .iter()
                .find(|found| found.condition != Condition::Detached && target(found) == member);
            let is_lost = found.is_some_and(|found| {
                matches!(found.condition, Condition::Missing { .. }) && self.world.is_open(host, member)
            });
            let has_source = report.members.iter().any(|member| member.condition == Condition::InSync);
            if is_lost && has_source {
                self.remove_member(member);
                return true;
            }
            if found.is_none() && !self.world.hosts[host].unreachable[member] {
                self.add_member(member);
                return true;
            }
        }
        let witness = self.plan.members;
        match report.witness {
            None if self.plan.witness => {
                self.add_member(witness);
                true
            }
            Some(found) if !found.is_current() && self.world.is_open(host, witness) => {
                self.remove_witness();
                true
            }
            _ => false,
        }
    }
}
