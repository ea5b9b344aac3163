//! Targets that come and go: links, power, ownership, and the processes that use them.

use crate::target::Status;
use crate::world::{Bdev, Event, Known, Notice, Then, World};

impl World {
    /// A process tries to open a target.
    pub fn attach(&mut self, host: usize, process: u32, target: usize) {
        let at = &self.hosts[host];
        let is_it = at.alive && at.process == process && at.wants;
        if !is_it || at.bdevs[target] != Bdev::Absent || at.unreachable[target] {
            return;
        }
        if at.stopped || !self.passes(host, target) {
            let again = self.rng.range(10_000, 100_000);
            return self.after(again, Event::Attach { host, process, target });
        }
        if self.targets[target].owner.is_some_and(|owner| owner != host) {
            if at.had[target] {
                return self.refuse(host, target);
            }
            if at.is_orderly {
                self.refuse_admission(host, process, target);
                let again = self.rng.range(10_000, 100_000);
                return self.after(again, Event::Attach { host, process, target });
            }
            if !at.takes {
                let again = self.rng.range(50_000, 200_000);
                return self.after(again, Event::Attach { host, process, target });
            }
        }
        self.admit(host, process, target);
    }

    /// A target admits a process as its owner.
    pub(crate) fn admit(&mut self, host: usize, process: u32, target: usize) {
        // What others have here ends first.
        let others: Vec<u32> = self.targets[target]
            .ops
            .values()
            .map(|op| op.process)
            .filter(|other| *other != process)
            .collect();
        for other in others {
            let ended = self.targets[target].fence(other, &mut self.rng);
            let Some(loser) = self.host_of(other) else { continue };
            for (_, request) in ended {
                self.tell(loser, Notice::Done { target, request, status: Status::Refused, data: Vec::new() });
            }
        }
        self.targets[target].owner = Some(host);
        if !self.hosts[host].had[target] {
            self.targets[target].number += 1;
        }
        for loser in 0..self.hosts.len() {
            if loser != host && self.is_open(loser, target) && self.passes(loser, target) {
                self.refuse(loser, target);
            }
        }
        self.hosts[host].bdevs[target] = Bdev::Open { losses: self.targets[target].losses };
        self.hosts[host].had[target] = true;
        self.hosts[host].trouble[target] = 0;
        self.tell(host, Notice::Opened { target });
        if self.hosts[host].is_orderly {
            self.keep_alive(host, process, target);
        }
    }

    /// Removes a target's bdev from a process, and returns it after a time.
    pub fn vanish(&mut self, host: usize, target: usize, again_us: u64) {
        if !self.is_open(host, target) {
            return;
        }
        self.hosts[host].bdevs[target] = Bdev::Closing;
        self.tell(host, Notice::Gone { target });
        let process = self.hosts[host].process;
        let lease = self.rng.below(self.lease_us);
        self.after(lease, Event::Fence { host, process, target, then: Then::Close { again_us } });
    }

    /// Closes a target once its operations have ended, and opens it again after a time.
    pub fn close(&mut self, host: usize, target: usize) {
        if self.is_open(host, target) {
            self.hosts[host].bdevs[target] = Bdev::Closing;
            self.note(|| format!("host {host}: target {target}: close"));
            let (process, again_us) = (self.hosts[host].process, self.rng.range(10_000, 200_000));
            let lease = self.rng.below(self.lease_us);
            self.after(lease, Event::Fence { host, process, target, then: Then::Close { again_us } });
        }
    }

    /// The link of a host to a target, or the target's power, is gone: processes lose their
    /// patience after a time.
    fn trouble(&mut self, host: usize, target: usize) {
        let (process, patience_us) = (self.hosts[host].process, self.patience_us);
        if self.is_open(host, target) && self.hosts[host].trouble[target] == 0 {
            self.trouble += 1;
            let trouble = self.trouble;
            self.hosts[host].trouble[target] = trouble;
            self.after(patience_us, Event::Patience { host, process, target, trouble });
        }
    }

    /// A process loses its patience with a target.
    pub fn lose_patience(&mut self, host: usize, process: u32, target: usize, trouble: u64) {
        let at = &self.hosts[host];
        if at.alive && at.process == process && at.trouble[target] == trouble {
            self.vanish(host, target, 20_000);
        }
    }

    /// Cuts the link of a host to a target.
    pub fn cut(&mut self, host: usize, target: usize, for_us: u64) {
        let until = self.now + for_us + 1;
        let cut = &mut self.hosts[host].cut_until[target];
        let is_new = *cut == 0;
        *cut = until.max(*cut);
        self.at(until, Event::Heal { host, target });
        if is_new {
            self.trouble(host, target);
        }
    }

    /// A link works again, unless it was cut again.
    pub fn heal(&mut self, host: usize, target: usize, at_once: bool) {
        let cut = &mut self.hosts[host].cut_until[target];
        if *cut == 0 || *cut > self.now && !at_once {
            return;
        }
        *cut = 0;
        self.note(|| format!("host {host}: the link to target {target} works again"));
        if self.hosts[host].alive && self.passes(host, target) {
            self.resume(host, target);
        }
    }

    /// A target loses its power. Returns the blocks that have lost a write.
    pub fn power_off(&mut self, target: usize, for_us: u64) -> Vec<u64> {
        let mut lost = Vec::new();
        if self.targets[target].powered {
            lost = self.targets[target].lose_power(&mut self.rng);
            self.note(|| format!("target {target}: no power, lost {lost:?}"));
            for host in 0..self.hosts.len() {
                self.trouble(host, target);
            }
        }
        let losses = self.targets[target].losses;
        self.after(for_us, Event::PowerBack { target, losses });
        lost
    }

    /// A target's power returns.
    pub fn power_on(&mut self, target: usize) {
        if self.targets[target].powered {
            return;
        }
        self.targets[target].powered = true;
        self.note(|| format!("target {target}: power"));
        for host in 0..self.hosts.len() {
            if self.hosts[host].alive && self.passes(host, target) {
                self.resume(host, target);
            }
        }
    }

    /// A host's process dies.
    pub fn crash(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        at.alive = false;
        at.stopped = false;
        (at.takes, at.is_orderly) = (false, false);
        at.known.fill(Known::default());
        at.inbox.clear();
        at.bdevs.fill(Bdev::Absent);
        at.had.fill(false);
        at.trouble.fill(0);
        at.wants = false;
        let process = at.process;
        self.note(|| format!("host {host}: process {process} dies"));
        for target in 0..self.targets.len() {
            let lease = self.rng.below(self.lease_us);
            self.after(lease, Event::Fence { host, process, target, then: Then::Nothing });
        }
    }

    /// A host's process starts.
    pub fn start(&mut self, host: usize, process: u32) {
        let at = &mut self.hosts[host];
        (at.process, at.alive, at.stopped) = (process, true, false);
        self.note(|| format!("host {host}: process {process} starts"));
    }

    /// The process of a host tries to open all targets that are not open: the witness, which is the
    /// last one, first.
    pub fn open_all(&mut self, host: usize) {
        let process = self.hosts[host].process;
        for (turn, target) in (0..self.targets.len()).rev().enumerate() {
            let jitter = self.rng.below(2_000);
            self.after(turn as u64 * 2_000 + jitter, Event::Attach { host, process, target });
        }
    }
}
