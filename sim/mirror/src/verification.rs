//! Verifications: an operator has members compared, whose media decay. Rule 15 of docs/mirror.md.

use dst_mirror::Input;
use dst_mirror::report::VerificationState;

use crate::checks;
use crate::disk::Content;
use crate::owner::Owner;
use crate::state::Run;

impl Run {
    /// A member's medium changes a block that no user uses.
    pub(crate) fn decay(&mut self, member: usize, block: u64) {
        let number = self.next_number;
        self.next_number += 1;
        // Nobody can say what the block holds from now on, unless it is repaired.
        let now = self.world.stamp();
        self.model.submit(number, block..block + 1, now);
        self.world.targets[member].disk.decay(block, Content::Write(number));
        self.repaired.remove(&block);
        self.decayed.insert(block);
    }

    /// The operator has the members compared.
    pub(crate) fn verify(&mut self, repairs: bool) {
        self.check_verifications();
        let Some(host) = self.user() else { return };
        if self.owners[host].as_ref().is_some_and(|owner| owner.mirror.may_verify().is_ok()) {
            self.world.note(|| format!("host {host}: a verification, repairs: {repairs}"));
            self.tell(host, Input::Verify { repairs });
            if let Some(owner) = &mut self.owners[host] {
                owner.is_verifying = true;
            }
        }
    }

    /// The operator stops the comparison.
    pub(crate) fn stop_verification(&mut self) {
        if let Some(host) = self.user() {
            self.tell(host, Input::StopVerification);
        }
    }

    /// Checks what verifications have found so far: nothing but what has decayed.
    pub(crate) fn check_verifications(&mut self) {
        for host in 0..self.owners.len() {
            let Some(owner) = self.owners[host].as_mut().filter(|owner| !owner.superseded) else { continue };
            let found = owner.mirror.report().verification;
            let Some(found) = found.filter(|_| owner.is_verifying) else { continue };
            let is_done = matches!(found.state, VerificationState::Done { .. });
            owner.is_verifying = matches!(found.state, VerificationState::Running { .. });
            for difference in &found.first {
                let range = difference.range;
                if !(range.start..range.end()).all(|block| self.decayed.contains(&block)) {
                    self.violate("15", format!("members are said to differ in {range:?}: {found:?}"));
                }
            }
            if is_done {
                self.totals.verifications += 1;
                self.totals.differing += found.differing;
                self.world.note(|| format!("host {host}: {found:?}"));
                if found.compared != self.plan.blocks {
                    self.violate("15", format!("not all blocks were compared: {found:?}"));
                }
                if found.repairs && found.unread == 0 {
                    // A member that was away may have what has decayed, and come back with that.
                    let all = vec![true; self.plan.members];
                    let is_equal = |block: &u64| self.is_equal(&all, *block);
                    let equal: Vec<u64> = self.decayed.iter().copied().filter(is_equal).collect();
                    self.repaired.extend(equal);
                }
            }
        }
    }

    /// Returns whether some members hold the same in a block.
    fn is_equal(&self, members: &[bool], block: u64) -> bool {
        let mut held = (0..self.plan.members)
            .filter(|&member| members[member])
            .map(|member| self.world.targets[member].disk.write_at(block));
        let first = held.next();
        held.all(|other| Some(other) == first)
    }

    /// At the end, blocks that were repaired are as they were then.
    pub(crate) fn check_repairs(&mut self) {
        self.check_verifications();
        let is_it = |owner: &Owner| owner.is_usable() && !owner.superseded;
        let Some(owner) = self.owners.iter().flatten().find(|&owner| is_it(owner)) else { return };
        let members = checks::in_sync(&self.plan, owner);
        for block in self.repaired.clone() {
            if !self.is_equal(&members, block) {
                self.violate("15", format!("block {block} was repaired, and members differ in it again"));
            }
        }
        self.totals.repaired += self.repaired.len() as u64;
    }
}
