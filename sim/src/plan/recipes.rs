//! Plans that bring about, more often than chance would, what a part of DST is for: faults that
//! belong together, with the I/O and the times that make them matter.

use world::rng::Rng;

use super::{Fault, Plan};

impl Plan {
    /// Gives targets several addresses, of which some are lost for a time.
    pub(super) fn have_paths(&mut self, r: &mut Rng) {
        self.spread = r.chance(800);
        self.addresses = r.range(if self.failover { 1 } else { 2 }, 3) as usize;
        self.client_threads = self.client_threads.max(r.range(2, 4) as usize);
        let lease_us = self.lease_us();
        for _ in 0..r.below(5) {
            let fault = Fault::LosePath {
                client: r.index(self.clients),
                target: r.index(self.targets),
                address: r.index(self.addresses),
                there: r.chance(700),
                back: r.chance(700),
                blocked: r.chance(600),
                for_us: r.range(lease_us / 4, 8 * lease_us),
            };
            self.faults.push((r.below(self.length_us), fault));
        }
        if r.chance(300) {
            // Long enough for channels to go back to their addresses while I/O goes on.
            self.length_us += 4_000_000;
            self.ios += 200;
            self.paced = true;
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Adds faults that rarely occur together but belong together: what leases and fences are for.
    pub(super) fn add_recipe(&mut self, r: &mut Rng) {
        let lease = self.lease_us();
        let client = r.index(self.clients);
        let target = client % self.targets;
        let at = r.range(20_000, self.length_us / 2);
        match r.below(12) {
            // A session ends while the backend still has some of its requests.
            0 | 8 | 9 if !self.failover => {
                self.be_busy();
                let at = r.range(12_000, 50_000);
                let away = r.range(5_000, lease / 2);
                let late_us = r.below(lease);
                self.faults.push((at, Fault::Hang { target, for_us: r.range(lease, 4 * lease) }));
                let at = at + r.below(10_000);
                self.faults.push((at, Fault::Sever { client, target, late_us, for_us: away }));
                let at = at + r.below(away);
                self.faults.push((at, Fault::RemoveHost { target, client, for_us: r.below(5_000) }));
                self.in_process = true;
            }
            // An I/O becomes overdue while its request is on its way.
            1 | 2 => {
                self.transaction_timeout_ms = r.range(20, u64::from(self.keep_alive_ms) / 2) as u32;
                for _ in 0..3 {
                    let at = at + r.below(self.length_us / 2);
                    let for_us = r.range(u64::from(self.transaction_timeout_ms) * 1000, lease);
                    let fault = match r.below(3) {
                        0 => Fault::StopTarget { target, for_us },
                        _ => Fault::BlackHole { there: true, back: r.chance(300), for_us },
                    };
                    self.faults.push((at, fault));
                }
            }
            // Another target takes over while the first one still has requests.
            3 | 4 | 8 | 9 if self.failover => {
                self.be_busy();
                let at = r.range(12_000, 50_000);
                let late_us = r.range(lease / 4, lease * 9 / 10);
                self.faults.push((at, Fault::Sever { client, target, late_us, for_us: 4 * lease }));
                if r.chance(500) {
                    self.faults
                        .push((at.saturating_sub(2000), Fault::StopTarget { target, for_us: late_us }));
                }
            }
            // A target is dead for longer than any user waits.
            5 => {
                self.transaction_timeout_ms = r.range(100, 600) as u32;
                let for_us = self.deadline_us() + 3 * lease + 1_000_000;
                self.faults
                    .push((at, Fault::KillTarget { target, vanish: r.chance(500), lose: true, for_us }));
                self.length_us = at + for_us + 100_000;
            }
            // A target is stopped for longer than its leases.
            6 => {
                self.faults.push((at, Fault::StopTarget { target, for_us: r.range(lease, 3 * lease) }));
                let fault = match r.below(3) {
                    0 => Fault::Sever { client, target, late_us: r.below(lease), for_us: r.below(lease) },
                    1 => Fault::Partition { client, target, for_us: r.below(2 * lease) },
                    _ => Fault::Cut,
                };
                self.faults.push((at + r.below(lease), fault));
            }
            // One thread's I/O fails while the backend has it; then another thread submits I/O.
            9 | 10 if !self.failover => {
                self.client_threads = 3;
                self.num_blocks = 8;
                self.user_depth = 1;
                self.ios = 100;
                self.transaction_timeout_ms = r.range(40, 120) as u32;
                self.latency_us = (1, 20_000);
                // Seldom enough that a thread may have nothing that hangs, and often enough that it
                // submits something before the hang ends.
                let hangs_us = self.deadline_us() + 2 * lease;
                self.think_us = 2 * hangs_us;
                self.length_us = 12 * hangs_us;
                self.faults.clear();
                for i in 0..4 {
                    self.faults.push((3 * i * hangs_us + at, Fault::Hang { target, for_us: hangs_us }));
                }
            }
            // Connections are lost again and again, with Answers on their way.
            7 => {
                for _ in 0..10 {
                    self.faults.push((r.below(self.length_us), Fault::Cut));
                }
            }
            _ => {}
        }
    }

    /// Some I/O fails while the backend has it, and other threads' I/O continues throughout. With
    /// cuts, what the target said about the session arrives after the session was given up because
    /// of that I/O.
    pub(super) fn hold_some(&mut self, r: &mut Rng) {
        let (client, target) = (r.index(self.clients), 0);
        self.client_threads = 3;
        self.num_blocks = 8;
        // I/O that hangs must not keep a thread from submitting more.
        self.user_depth = 2;
        self.client_depth = self.client_depth.max(4);
        self.target_depth = self.target_depth.max(8);
        self.resets = false;
        self.transaction_timeout_ms = r.range(40, 120) as u32;
        self.session_timeout_ms = 60_000;
        self.reconnect_delay_ms = 10;
        self.latency_us = (1, 2000);
        let lease = self.lease_us();
        let cuts = r.chance(600);
        // Without aborts a session is given up, for which the cuts are.
        self.aborts = !cuts && r.chance(600);
        if !cuts {
            self.target_cores = 2;
            self.net.delay_us = 200;
        }
        if cuts {
            // An attempt to connect takes a while.
            self.net.delay_us = lease / 40;
            self.net.buffer = (16_384, 200_000);
            self.user_depth = 4;
        }
        let fails_us = self.deadline_us() + lease;
        // Long enough for all leases to end once more.
        let hangs_us = fails_us + 2 * lease;
        self.faults.clear();
        for i in 0..4 {
            let at = 20_000 + i * (hangs_us + lease) + r.below(10_000);
            self.faults.push((at, Fault::HoldCurrent { target, for_us: hangs_us }));
            if cuts {
                let at = at + r.range(fails_us - lease / 2, fails_us - lease / 10);
                self.faults.push((at, Fault::CutAll { client, target }));
                // Welcomes that are on their way arrive after the attempts that they answer were
                // given up; nothing else arrives before.
                let at = at + 2 * self.net.delay_us;
                let for_us = r.range(lease / 4, lease / 2);
                self.faults.push((at, Fault::KeepBack { client, target, for_us }));
                self.faults.push((at, Fault::Refuse { client, target, for_us: for_us + lease / 8 }));
            } else {
                // What is aborted then is to be held by all groups, of which the app thread tells them.
                let at = at + self.deadline_us() - 5000;
                self.faults.push((at, Fault::BusyControl { target, for_us: r.range(10_000, 30_000) }));
            }
        }
        self.length_us = 4 * (hangs_us + lease) + 50_000;
        self.think_us = 2000;
        self.paced = true;
        self.ios = self.length_us / 1000;
    }

    /// Has a client told to stop while its targets are dead, or before or after that.
    pub(super) fn end_client(&mut self, r: &mut Rng) {
        let client = r.index(self.clients);
        // Long enough to tell an I/O's own patience from the patience that all I/O of a stop
        // shares.
        self.keep_alive_ms = if self.net.delay_us < 2000 { 100 } else { self.keep_alive_ms };
        self.transaction_timeout_ms = 3 * self.keep_alive_ms + 900;
        self.reconnect_delay_ms = self.reconnect_delay_ms.min(50);
        self.max_retries = 0;
        let patience_us = self.deadline_us();
        let stop_at = r.range(50_000, patience_us);
        let dead_at = r.range(20_000, 2 * stop_at);
        let dead_us = if r.chance(500) { 3 * patience_us } else { r.below(2 * patience_us) };
        self.faults.clear();
        for target in 0..self.targets {
            let vanish = r.chance(200);
            self.faults.push((dead_at, Fault::KillTarget { target, vanish, lose: false, for_us: dead_us }));
        }
        self.faults.push((stop_at, Fault::EndClient { client, for_us: 2 * patience_us }));
        self.faults.sort_by_key(|(at, _)| *at);
        self.length_us = stop_at + 2 * patience_us + 100_000;
        self.think_us = 20_000;
        self.paced = true;
        self.ios = 200;
    }

    /// Has two hosts use and reset one slow device. I/O of one host that the other's reset ends may
    /// run into a stop of the target or a lost connection.
    pub(super) fn reset_often(&mut self, r: &mut Rng) {
        self.clients = 2;
        self.read_only = false;
        self.compares_only = false;
        self.resets = true;
        self.user_depth = 4;
        self.client_depth = self.client_depth.max(4);
        self.target_depth = self.target_depth.max(8);
        self.latency_us = (1000, 20_000.min(self.lease_us() / 2));
        self.think_us = 2000;
        self.paced = true;
        self.length_us = r.range(2_000_000, 4_000_000);
        self.ios = self.length_us / 4000;
        self.errors = 0;
        self.faults.truncate(2);
    }

    /// Pulls the backend's device, and puts it back, while it has much to do.
    pub(super) fn pull_often(&mut self, r: &mut Rng) {
        self.be_busy();
        self.target_depth = self.target_depth.max(8);
        self.latency_us = (500, 20_000.min(self.lease_us() / 2));
        (self.think_us, self.errors, self.resets) = (2000, 0, false);
        self.faults.clear();
        for i in 0..5 {
            let at = 50_000 + i * 300_000 + r.below(200_000);
            let for_us = r.range(1000, 100_000);
            self.faults.push((at, Fault::Pull { target: 0, lose: r.chance(500), for_us }));
        }
        self.length_us = 2_000_000;
        self.paced = true;
        self.ios = 400;
    }

    /// Has users give up on a target that stays away.
    pub(super) fn lose_patience(&mut self, r: &mut Rng) {
        let lease_us = self.lease_us();
        let lease_ms = u64::from(self.keep_alive_ms);
        self.reconnect_delay_ms = 10;
        // I/O that was sent has to wait for the end of its lease all the same.
        let is_short = r.chance(500);
        self.fast_io_fail_ms = r.range(10, if is_short { lease_ms / 4 } else { 3 * lease_ms }) as u32;
        if r.chance(300) {
            self.loss_ms = self.fast_io_fail_ms + r.below(3 * lease_ms) as u32;
        }
        if r.chance(100) {
            (self.fast_io_fail_ms, self.loss_ms) = (0, self.fast_io_fail_ms);
        }
        let away_us = u64::from(self.fast_io_fail_ms.max(self.loss_ms)) * 1000 + 4 * lease_us;
        let pause_us = away_us + 6 * lease_us;
        for i in 0..2 {
            let at = 20_000 + i * pause_us + r.below(lease_us);
            let client = r.index(self.clients);
            let late_us = r.range(lease_us / 4, lease_us * 9 / 10);
            let (vanish, lose) = (r.chance(500), r.chance(500));
            let kind = r.below(4);
            // No target may be reachable, or this would be no outage.
            for target in 0..self.targets {
                let fault = match kind {
                    0 => Fault::Partition { client, target, for_us: away_us },
                    1 => Fault::KillTarget { target, vanish, lose, for_us: away_us },
                    _ => {
                        // The target then has much unread data in its sockets.
                        self.faults.push((at - 2000, Fault::StopTarget { target, for_us: late_us }));
                        Fault::Sever { client, target, late_us, for_us: away_us }
                    }
                };
                self.faults.push((at, fault));
            }
        }
        self.length_us = self.length_us.max(2 * pause_us + 50_000);
        self.faults.sort_by_key(|(at, _)| *at);
        self.be_busy();
        self.paced = true;
        self.ios = self.ios.max((self.length_us / 2000).min(500));
    }

    /// Makes the plan busy enough that something is on its way at the wrong moment.
    pub(crate) fn be_busy(&mut self) {
        self.user_depth = self.user_depth.max(4);
        self.client_depth = self.client_depth.max(4);
        self.ios = self.ios.max(120);
        self.paced = false;
        self.think_us = self.think_us.min(2000);
        self.net.delay_us = self.net.delay_us.min(2000);
        self.reconnect_delay_ms = self.reconnect_delay_ms.min(50);
    }
}
