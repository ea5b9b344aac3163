//! Hosts that take the mirror over in the order of `dst_mirror::takeover`: they ask targets who owns them,
//! and claim them one after the other.

use dst_mirror::Input;
use dst_mirror::takeover::{Standing, Step};

use crate::owner::{device_of, target_of};
use crate::state::Run;
use crate::world::{Bdev, Event, Known, World};

impl World {
    /// Returns the time that a packet is on its way.
    fn way(&mut self) -> u64 {
        self.rng.range(50, 3_000)
    }

    fn is_process(&self, host: usize, process: u32) -> bool {
        self.hosts[host].alive && self.hosts[host].process == process
    }

    /// A process is not admitted, as another host owns the target, whose answer is on its way.
    pub(crate) fn refuse_admission(&mut self, host: usize, process: u32, target: usize) {
        let (number, way) = (self.targets[target].number, self.way());
        self.after(way, Event::Heard { host, process, target, number });
    }

    /// A process hears of the newest ownership of a target.
    pub fn heard(&mut self, host: usize, process: u32, target: usize, number: u64) {
        if self.is_process(host, process) && self.hosts[host].bdevs[target] == Bdev::Absent {
            let at = &mut self.hosts[host].known[target];
            at.newest = Some((number, self.now));
            if at.claim.is_some_and(|after| after != number) {
                at.claim = None;
            }
        }
    }

    /// A process sends a claim.
    fn send_claim(&mut self, host: usize, target: usize, after: u64) {
        self.note(|| format!("host {host}: claims target {target} after {after}"));
        self.hosts[host].known[target].claim = Some(after);
        let (process, way) = (self.hosts[host].process, self.way());
        self.after(way, Event::Claim { host, process, target, after });
    }

    /// A claim arrives at its target.
    pub fn claim(&mut self, host: usize, process: u32, target: usize, after: u64) {
        if !self.is_process(host, process) {
            // It is as if it had not arrived.
            return;
        }
        let is_pending = self.hosts[host].known[target].claim == Some(after);
        if !is_pending || self.hosts[host].bdevs[target] != Bdev::Absent {
            return;
        }
        if !self.passes(host, target) {
            let again = self.rng.range(10_000, 50_000);
            return self.after(again, Event::Claim { host, process, target, after });
        }
        if self.targets[target].number != after {
            return self.refuse_admission(host, process, target);
        }
        self.admit(host, process, target);
    }

    /// Asks a target whether it still has the session of a process, and again and again.
    pub(crate) fn keep_alive(&mut self, host: usize, process: u32, target: usize) {
        let (sent, pause) = (self.now, self.rng.range(5_000, 30_000));
        let way = self.way();
        self.after(way, Event::Confirm { host, process, target, sent });
        self.after(pause, Event::KeepAlive { host, process, target });
    }

    /// It is time for the next keep-alive.
    pub fn keep_alive_due(&mut self, host: usize, process: u32, target: usize) {
        if !self.is_process(host, process) || self.hosts[host].bdevs[target] == Bdev::Absent {
            return;
        }
        if self.hosts[host].stopped {
            let again = self.rng.range(5_000, 30_000);
            return self.after(again, Event::KeepAlive { host, process, target });
        }
        self.keep_alive(host, process, target);
    }

    /// A keep-alive arrives.
    pub fn confirm(&mut self, host: usize, process: u32, target: usize, sent: u64) {
        let is_owner = self.targets[target].owner == Some(host) && self.is_open(host, target);
        if self.is_process(host, process) && is_owner && self.passes(host, target) {
            let at = &mut self.hosts[host].known[target];
            at.confirmed_us = at.confirmed_us.max(sent);
        }
    }

    fn standing(&self, host: usize, target: usize) -> Standing {
        let at = &self.hosts[host];
        let Known { newest, claim, confirmed_us } = at.known[target];
        match (at.bdevs[target], claim, newest) {
            (Bdev::Open { .. } | Bdev::Closing, ..) => Standing::Own { confirmed_us },
            _ if at.unreachable[target] => Standing::Silent,
            _ if at.had[target] => Standing::Own { confirmed_us: 0 },
            (_, Some(_), _) => Standing::Claimed,
            (_, None, Some((number, read_us))) => Standing::Foreign { number, read_us },
            (_, None, None) => Standing::Silent,
        }
    }
}

impl Run {
    /// A process that takes over looks what it has to do.
    pub(crate) fn take_devices(&mut self, host: usize, process: u32) {
        let at = &self.world.hosts[host];
        if !at.alive || at.process != process {
            return;
        }
        let (is_stopped, wants) = (at.stopped, at.wants);
        let pause = self.world.rng.range(500, 3_000);
        self.world.after(pause, Event::Take { host, process });
        let Some(owner) = self.owners[host].as_mut().filter(|owner| !is_stopped && wants && !owner.ended)
        else {
            return;
        };
        let Some(takeover) = &mut owner.takeover else { return };
        let (world, plan, now) = (&self.world, &self.plan, self.world.now);
        match takeover.step(now, |device| world.standing(host, target_of(plan, device))) {
            Step::Wait | Step::Ended => {}
            Step::Claim { device, after } => {
                let target = target_of(&self.plan, device);
                self.world.send_claim(host, target, after);
            }
            Step::Over => {
                self.world.note(|| format!("host {host}: has taken all"));
                for target in 0..self.plan.targets() {
                    self.opened(host, target);
                }
            }
            Step::Lost { device } => {
                owner.ended = true;
                self.world.hosts[host].wants = false;
                self.world.note(|| format!("host {host}: another host was faster at {device}"));
            }
        }
    }

    /// Tells the mirror of a target that is open, unless that is withheld.
    pub(crate) fn opened(&mut self, host: usize, target: usize) {
        let is_open = self.world.is_open(host, target);
        let Some(owner) = &mut self.owners[host] else { return };
        if !is_open || owner.is_taking() {
            return;
        }
        owner.opened[target] = true;
        let disk = &self.world.targets[target].disk;
        let (blocks, block_size) = (disk.num_blocks, disk.block_size);
        let device = device_of(&self.plan, target);
        self.tell(host, Input::Opened { device, blocks, block_size });
    }
}
