//! Exports with one owner at a time, in random plans: several clients take one export over from each
//! other at any moment, while everything else goes wrong as well.

use world::process;
use world::rng::Rng;

use crate::fleet::TargetSide;
use crate::plan::{Fault, Plan};
use crate::run::Run;

/// How long a client of an owned export tries to attach, in ms. Whether it tries again is up to its
/// user.
const ATTACH_MS: u32 = 3000;

impl Plan {
    /// Has clients own the export in turn. What is not promised to owners is left out: another
    /// target on the same backend, and a backend that outlives its target's process.
    pub(crate) fn own(&mut self, r: &mut Rng) {
        (self.is_owned, self.attach_timeout_ms) = (true, ATTACH_MS);
        (self.clients, self.targets, self.failover) = (r.range(2, 3) as usize, 1, false);
        (self.in_process, self.read_only, self.resets) = (true, false, false);
        (self.errors, self.fast_io_fail_ms, self.loss_ms) = (0, 0, 0);
        self.store_failures = if r.chance(400) { r.pick(&[50, 300]) } else { 0 };
        self.latency_us.1 = r.pick(&[200, 2000, 20_000]).max(self.latency_us.0);
        self.be_busy();
        let lease = self.lease_us();
        self.length_us = r.range(600_000, 2_000_000);
        self.ios = self.ios.max(200);
        self.paced = true;
        self.faults.clear();
        for _ in 0..r.range(2, 8) {
            let at = r.below(self.length_us);
            let client = r.index(self.clients);
            // Something happens to somebody just before, and sometimes another one takes over, too.
            for _ in 0..r.below(3) {
                let before = at.saturating_sub(r.below(lease / 2));
                self.faults.push((before, self.trouble(r)));
            }
            self.faults.push((at, Fault::TakeOver { client, reborn: r.chance(700) }));
            if r.chance(300) {
                let other = (client + 1) % self.clients;
                self.faults.push((at + r.below(5000), Fault::TakeOver { client: other, reborn: true }));
            }
            if r.chance(300) {
                self.faults.push((at + r.below(20_000), self.trouble(r)));
            }
        }
        // Numbers rise by less than one a second, as `dst_export_release` demands, only if the
        // owner becomes unknown once.
        if r.chance(300) {
            let fault = Fault::LoseOwner { is_torn: r.chance(500), for_us: r.below(lease) };
            self.faults.push((r.below(self.length_us), fault));
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Returns what goes wrong beside a takeover.
    fn trouble(&self, r: &mut Rng) -> Fault {
        let lease = self.lease_us();
        let (client, target) = (r.index(self.clients), 0);
        let for_us = r.pick(&[lease / 10, lease, 4 * lease]).min(1 + r.below(4 * lease));
        match r.below(9) {
            0 | 1 => Fault::StopClient { client, for_us },
            2 => Fault::Partition { client, target, for_us },
            3 => Fault::Sever { client, target, late_us: r.below(lease), for_us },
            4 => Fault::BlackHole { there: r.chance(700), back: r.chance(700), for_us },
            5 => Fault::KillTarget { target, vanish: r.chance(200), lose: false, for_us: for_us / 4 },
            6 => Fault::StopTarget { target, for_us },
            7 => Fault::Hang { target, for_us },
            _ => Fault::CutAll { client, target },
        }
    }
}

impl Run {
    /// Has a client take the export over.
    pub(crate) fn take_over(&mut self, client: usize, reborn: bool) {
        self.clients[client].takes_over = true;
        if reborn {
            self.kill_client(client, false);
            self.start_client(client);
        } else {
            self.create_again(client);
        }
    }

    /// Has an operator release an export of which nobody knows the owner.
    pub(crate) fn release_unknown(&self) {
        if self.plan.is_owned {
            self.targets.iter().for_each(TargetSide::release_unknown);
        }
    }

    /// Leaves the export to one client once all faults have ended.
    pub(crate) fn settle_owner(&mut self) {
        if !self.plan.is_owned {
            return;
        }
        let owner = self.plan.seed as usize % self.plan.clients;
        for client in 0..self.clients.len() {
            if client == owner {
                self.clients[client].takes_over = true;
                self.create_again(client);
            } else {
                self.delete_bdev(client);
                self.clients[client].wanted = false;
            }
        }
    }

    /// Deletes a client's bdev, which is created again when it is gone.
    fn create_again(&mut self, client: usize) {
        if process::is_alive(self.clients[client].process) {
            self.delete_bdev(client);
            self.clients[client].wanted = true;
        }
    }
}
