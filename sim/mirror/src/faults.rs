//! What goes wrong.

use crate::checks;
use crate::plan::Fault;
use crate::state::Run;
use crate::world::Event;

impl Run {
    /// A fault of the plan occurs.
    pub(crate) fn strike(&mut self, fault: Fault) {
        self.world.note(|| format!("{fault:?}"));
        self.trouble_us = self.world.now;
        match fault {
            Fault::Power { member, for_us } => self.power(member, for_us),
            Fault::PowerAll { members, for_us } => {
                for target in 0..self.plan.targets() {
                    if members & 1 << target != 0 {
                        self.power(target, for_us);
                    }
                }
            }
            Fault::Cut { host, member, for_us } => self.world.cut(host, member, for_us),
            Fault::Vanish { host, member, for_us } => self.world.vanish(host, member, for_us),
            Fault::Slow { member, factor, for_us } => {
                self.world.targets[member].slow = factor;
                self.world.after(for_us, Event::Well { target: member });
            }
            Fault::Errors { member, per_mille, for_us } => {
                self.world.targets[member].errors = per_mille;
                self.world.after(for_us, Event::Well { target: member });
            }
            Fault::BadBlock { member, hot } => {
                let block = self.plan.hot[hot];
                // Blocks that no member can read are lost, which says nothing about the mirror.
                if self.world.targets.iter().all(|target| target.bad.is_empty()) {
                    self.world.targets[member].bad.insert(block);
                }
            }
            Fault::Crash { host, for_us } => {
                self.has_takers = false;
                self.crash(host, for_us);
            }
            Fault::Machine { host, for_us } => {
                self.crash(host, for_us + 1);
                if host == 0 && self.plan.local {
                    self.power(0, for_us);
                }
            }
            Fault::Stop { host, for_us } => {
                let at = &mut self.world.hosts[host];
                if at.alive && !at.stopped {
                    at.stopped = true;
                    let process = at.process;
                    self.world.after(for_us, Event::Continue { host, process });
                }
            }
            Fault::BadBlocks { member } => {
                if self.world.targets.iter().all(|target| target.bad.is_empty()) {
                    self.world.targets[member].bad.extend(&self.plan.hot);
                }
            }
            Fault::Swap { host, member, all, after_us, for_us } => {
                for target in (0..self.plan.targets()).filter(|&target| target != member) {
                    if all || target < self.plan.members {
                        self.world.vanish(host, target, for_us);
                    }
                }
                self.world.after(after_us, Event::Swap { host, member, for_us });
            }
            Fault::Blackout { host, members, for_us } => {
                for target in 0..self.plan.targets() {
                    if members & 1 << target != 0 {
                        self.power(target, for_us);
                    }
                }
                self.crash(host, for_us + 1);
            }
            Fault::Remove { member } => self.remove_member(member),
            Fault::Add { member } => self.add_member(member),
            Fault::RemoveWitness => self.remove_witness(),
            Fault::AddWitness => self.add_member(self.plan.members),
            Fault::RemoveAndCrash { host, member, after_us, members, for_us } => {
                self.remove_member(member);
                self.world.after(after_us, Event::CutAndCrash { host, members, for_us });
            }
            Fault::Decay { member, block } => self.decay(member, block),
            Fault::Verify { repairs } => self.verify(repairs),
            Fault::StopVerification => self.stop_verification(),
            Fault::Takeover { host } => self.take_over(host),
            Fault::Partition { host, member, for_us } => {
                for other in 0..self.plan.hosts {
                    for target in 0..self.plan.targets() {
                        let is_own = target == member || target == self.plan.members;
                        if is_own != (other == host) {
                            self.world.cut(other, target, for_us);
                        }
                    }
                }
                self.take_over(host);
            }
        }
    }

    /// The second half of [`Fault::Swap`].
    pub(crate) fn swap(&mut self, host: usize, member: usize, for_us: u64) {
        self.trouble_us = self.world.now;
        self.crash(host, 1_000);
        self.world.cut(host, member, for_us);
    }

    /// The second half of [`Fault::RemoveAndCrash`].
    pub(crate) fn cut_and_crash(&mut self, host: usize, members: u64, for_us: u64) {
        self.trouble_us = self.world.now;
        self.crash(host, 1_000);
        for target in (0..self.plan.targets()).filter(|target| members & 1 << target != 0) {
            self.world.cut(host, target, for_us);
        }
    }

    fn power(&mut self, target: usize, for_us: u64) {
        self.world.power_off(target, for_us);
        checks::excuse_losses(self);
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        self.trouble_us = self.world.now;
        for target in 0..self.plan.targets() {
            self.world.power_on(target);
            let at = &mut self.world.targets[target];
            (at.slow, at.errors) = (1, 0);
            at.bad.clear();
            for host in 0..self.plan.hosts {
                self.world.heal(host, target, true);
            }
        }
        for host in 0..self.plan.hosts {
            let process = self.world.hosts[host].process;
            self.resume(host, process);
            self.start(host);
        }
    }

    /// A stopped process continues.
    pub(crate) fn resume(&mut self, host: usize, process: u32) {
        let at = &mut self.world.hosts[host];
        if at.process == process && at.stopped {
            at.stopped = false;
            self.trouble_us = self.world.now;
            self.world.note(|| format!("host {host} is continued"));
            self.tick(host, process);
        }
    }
}
