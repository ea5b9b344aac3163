//! How each fault is applied to the world, and undone.

use dst_session::patience::STALL_US;
use spdk::durable_file;
use world::life::{self, Death};
use world::{net, process, store};

use crate::fleet::{BDEV, STATE_FILE, TargetSide, new_store};
use crate::model::StopFacts;
use crate::plan::Fault;
use crate::run::Run;
use crate::seats::ThreadUse;

/// The number of failing operations, of 1,000, at which all of them fail.
const ALL: u64 = 1000;

/// How long after a fault and the lease a session may still end because of the fault, in µs.
const SLACK_US: u64 = 100_000;

impl Run {
    /// Applies a fault of the plan.
    pub(crate) fn strike(&mut self, index: usize) {
        let fault = self.plan.faults[index].1;
        world::note(|| format!("FAULT {index}: {fault:?}"));
        // A stop in order leaves no compare-and-write with an unknown outcome.
        if !matches!(fault, Fault::EndTarget { errors: 0, .. }) {
            self.sessions_may_end(fault.lasts_us());
        }
        match fault {
            Fault::Cut => {
                if let Some(connection) = some_connection() {
                    net::cut(connection);
                }
            }
            Fault::BlackHole { there, back, for_us } => {
                if let Some(connection) = some_connection() {
                    net::black_hole(connection, there, back, for_us);
                }
            }
            Fault::Corrupt { from_client, data } => {
                if let Some(connection) = some_connection() {
                    self.frames.corrupt(connection, from_client, data);
                }
            }
            Fault::Partition { client, target, for_us } => {
                let (client, target) = (self.clients[client].process, &self.targets[target]);
                for connection in net::between(client, target.process) {
                    net::black_hole(connection, true, true, for_us);
                }
                for address in target.addresses(&self.plan) {
                    net::block(client, address, for_us);
                }
            }
            Fault::Sever { client, target, late_us, for_us } => {
                let (client, target) = (self.clients[client].process, &self.targets[target]);
                for connection in net::between(client, target.process) {
                    net::sever(connection, late_us);
                }
                for address in target.addresses(&self.plan) {
                    net::refuse(client, address, for_us);
                }
            }
            Fault::StopTarget { target, .. } => life::set_stopped(self.targets[target].process, true),
            Fault::StopClient { client, .. } => self.stop_client(client),
            Fault::KillTarget { target, vanish, lose, .. } => self.kill_target(target, vanish, lose),
            Fault::EndTarget { target, errors, .. } => {
                let side = &mut self.targets[target];
                if errors > 0 && process::is_alive(side.process) {
                    store::set_errors(side.exported_store(), errors);
                }
                side.end();
            }
            Fault::EndClient { client, .. } => self.stop_in_order(client),
            Fault::KillClient { client, vanish, .. } => self.kill_client(client, vanish),
            Fault::Hang { target, .. } => store::set_hung(self.targets[target].store, true),
            Fault::HoldCurrent { target, .. } => store::set_stuck(self.targets[target].store, true),
            Fault::BusyControl { target, for_us } => process::hold_up(self.targets[target].app, for_us),
            Fault::CutAll { client, target } => {
                for connection in net::between(self.clients[client].process, self.targets[target].process) {
                    net::cut(connection);
                }
            }
            Fault::KeepBack { client, target, for_us } => {
                for connection in net::between(self.clients[client].process, self.targets[target].process) {
                    net::black_hole(connection, false, true, for_us);
                }
            }
            Fault::Refuse { client, target, for_us } => {
                for address in self.targets[target].addresses(&self.plan) {
                    net::refuse(self.clients[client].process, address, for_us);
                }
            }
            Fault::LosePath { client, target, address, there, back, blocked, for_us } => {
                let client = self.clients[client].process;
                let address = self.targets[target].address(address);
                for connection in net::to(client, address) {
                    net::black_hole(connection, there, back, for_us);
                }
                if blocked {
                    net::block(client, address, for_us);
                }
            }
            Fault::DeleteBdev { client, .. } => self.delete_bdev(client),
            Fault::Repoint { client } => self.clients[client].repoint(&self.plan),
            Fault::DeleteExport { target, .. } => {
                self.all_may_fail();
                self.targets[target].delete_export();
                self.exports_change = true;
            }
            Fault::Pull { target, lose, .. } => self.pull(target, lose),
            Fault::RemoveHost { target, client, .. } => {
                self.trouble_us = world::now();
                self.model.clients[client].may_fail = true;
                self.targets[target].remove_host(client);
            }
            Fault::Restrict { client, .. } => {
                // With two targets on one store, one target's rights would not tell what the other
                // one grants.
                if self.plan.failover {
                    return;
                }
                self.trouble_us = world::now();
                self.model.clients[client].may_fail = true;
                let target = self.clients[client].target;
                self.targets[target].restrict(&self.plan, client);
            }
            Fault::Grow { target, by } => {
                let store = self.targets[target].store;
                store::grow(store, store::num_blocks(store) + by);
                for target in self.targets.iter().filter(|t| t.exported_store() == store) {
                    spdk::bdev::resized(target.process, BDEV);
                }
            }
            Fault::Reopen { client, thread, .. } => self.seats[client][thread].want(false),
            Fault::OtherDevice { target, .. } => {
                if self.plan.failover || self.targets[target].other.is_some() {
                    return;
                }
                self.all_may_fail();
                self.kill_target(target, false, false);
                // A run has one other device at most, because there is one UUID for it.
                let other = self.targets[target].last_other.unwrap_or_else(|| new_store(&self.plan, 50));
                self.targets[target].other = Some(other);
                self.targets[target].start(&self.plan);
            }
            Fault::TakeOver { client, reborn } => self.take_over(client, reborn),
            Fault::LoseOwner { is_torn, .. } => {
                self.all_may_fail();
                self.kill_target(0, false, false);
                durable_file::damage(STATE_FILE, is_torn);
            }
        }
        let ends_by_itself = matches!(
            fault,
            Fault::Cut
                | Fault::Corrupt { .. }
                | Fault::CutAll { .. }
                | Fault::Grow { .. }
                | Fault::Repoint { .. }
                | Fault::TakeOver { .. }
                | Fault::Sever { .. }
                | Fault::BlackHole { .. }
                | Fault::Partition { .. }
                | Fault::LosePath { .. }
                | Fault::BusyControl { .. }
                | Fault::KeepBack { .. }
                | Fault::Refuse { .. }
        );
        if ends_by_itself {
            return;
        }
        let for_us = fault.lasts_us();
        self.undo_at(for_us, index);
    }

    /// Undoes a fault. May be called more than once for the same fault.
    pub(crate) fn undo(&mut self, fault: Fault) {
        match fault {
            Fault::StopTarget { target, .. } => life::set_stopped(self.targets[target].process, false),
            Fault::StopClient { client, .. } => self.continue_client(client),
            Fault::KillTarget { target, .. } => self.start_target(target),
            Fault::EndTarget { target, lose, .. } => {
                if self.targets[target].is_ending() {
                    if !self.targets[target].has_ended() {
                        self.sessions_may_end(0);
                    }
                    self.kill_target(target, false, lose);
                }
                self.start_target(target);
            }
            Fault::LoseOwner { .. } => self.start_target(0),
            Fault::EndClient { client, .. } => {
                if self.model.clients[client].stop.is_some() {
                    self.kill_client(client, false);
                }
                self.start_client(client);
            }
            Fault::KillClient { client, .. } => self.start_client(client),
            Fault::Hang { target, .. } => store::set_hung(self.targets[target].store, false),
            Fault::HoldCurrent { target, .. } => store::set_stuck(self.targets[target].store, false),
            Fault::DeleteBdev { client, .. } => self.clients[client].wanted = true,
            Fault::DeleteExport { target, .. } => self.targets[target].make_export(&self.plan),
            Fault::Pull { target, .. } => self.plug(target),
            Fault::RemoveHost { target, client, .. } => self.targets[target].add_host(&self.plan, client),
            Fault::Restrict { client, .. } => {
                let target = self.clients[client].target;
                self.targets[target].lift(&self.plan, client);
                self.model.clients[client].restricted = false;
            }
            Fault::Reopen { client, thread, .. } => self.seats[client][thread].want(true),
            Fault::OtherDevice { target, .. } if self.targets[target].other.is_some() => {
                self.all_may_fail();
                self.kill_target(target, false, false);
                self.targets[target].other = None;
                self.start_target(target);
            }
            _ => {}
        }
    }

    /// Notes that sessions may end for the time `for_us`, so that a compare-and-write may have an
    /// unknown outcome.
    fn sessions_may_end(&mut self, for_us: u64) {
        self.model.excuses.session_lost = world::stamp();
        // A client may go on sending until it gives up a connection that is silent.
        let until_us = world::now() + for_us + 2 * self.plan.lease_us() + SLACK_US;
        self.sessions_end_until_us = self.sessions_end_until_us.max(until_us);
        if self.plan.failover {
            // To a client, the other target is another instance.
            self.model.excuses.restarted = world::stamp();
        }
    }

    fn all_may_fail(&mut self) {
        self.trouble_us = world::now();
        self.model.clients.iter_mut().for_each(|client| client.may_fail = true);
    }

    /// Removes a target's backend: SPDK reports the removal, and fails all of the backend's I/O
    /// from then on.
    fn pull(&mut self, target: usize, lose: bool) {
        let side = &self.targets[target];
        // With two targets on one store, the other target could not fence what this one has given
        // to it.
        if self.plan.failover || !process::is_alive(side.process) {
            return;
        }
        self.model.excuses.restarted = world::stamp();
        let store = side.exported_store();
        spdk::bdev::remove(side.process, BDEV);
        store::set_errors(store, ALL);
        store::fail_all(store);
        if lose {
            store::lose_cache(store);
        }
    }

    /// Makes a target's backend available again.
    fn plug(&mut self, target: usize) {
        if self.plan.failover {
            return;
        }
        let side = &self.targets[target];
        store::set_errors(side.exported_store(), self.plan.errors);
        side.plug(&self.plan);
    }

    fn kill_target(&mut self, target: usize, vanish: bool, lose: bool) {
        let side = &self.targets[target];
        if !process::is_alive(side.process) {
            return;
        }
        self.model.excuses.restarted = world::stamp();
        life::kill(side.process, if vanish { Death::Vanished } else { Death::Killed });
        if self.plan.in_process {
            // Records up to now are of a living backend.
            self.check_promises();
            self.promises.backend_died();
        }
        let side = &self.targets[target];
        // Clients of the other target could not know that the cache that both targets share has
        // lost its contents.
        if lose && !self.plan.failover {
            store::lose_cache(side.store);
        }
    }

    fn start_target(&mut self, target: usize) {
        if !process::is_alive(self.targets[target].process) {
            self.targets[target].start(&self.plan);
            for stop in self.model.clients.iter_mut().filter_map(|client| client.stop.as_mut()) {
                stop.targets_are_dead = false;
            }
        }
    }

    pub(crate) fn kill_client(&mut self, client: usize, vanish: bool) {
        let process = self.clients[client].process;
        if process::is_alive(process) {
            life::kill(process, if vanish { Death::Vanished } else { Death::Killed });
            // Records up to now are to be checked as those of a living process.
            self.check_promises();
            self.model.client_died(client);
            self.promises.forget(client);
            self.clients[client].disk = None;
        }
    }

    /// Tells a client's process to stop. Its users continue, as layers above do that end one after
    /// another.
    fn stop_in_order(&mut self, client: usize) {
        let side = &self.clients[client];
        if !process::is_alive(side.process) {
            return;
        }
        side.stop();
        let is_dead = |target: &TargetSide| !process::is_alive(target.process);
        let targets_are_dead = match self.plan.failover {
            true => self.targets.iter().all(is_dead),
            false => is_dead(&self.targets[side.target]),
        };
        let (running_us, active_us) = (self.running_us(client), self.active_us(client));
        self.model.clients[client].stop = Some(StopFacts { running_us, active_us, targets_are_dead });
    }

    pub(crate) fn start_client(&mut self, client: usize) {
        if !process::is_alive(self.clients[client].process) {
            self.stops[client] = Default::default();
            self.clients[client].start(&self.plan);
            self.model.clients[client].may_fail = false;
            self.model.clients[client].stop = None;
            self.seats[client].iter_mut().for_each(ThreadUse::restarted);
        }
    }

    fn stop_client(&mut self, client: usize) {
        let process = self.clients[client].process;
        if process::is_alive(process) && !process::is_stopped(process) {
            self.stops[client].began_us = process::clock(process);
            life::set_stopped(process, true);
        }
    }

    fn continue_client(&mut self, client: usize) {
        let process = self.clients[client].process;
        if process::is_alive(process) && process::is_stopped(process) {
            life::set_stopped(process, false);
            let stopped_us = process::clock(process) - self.stops[client].began_us;
            // The client cannot tell shorter stops from a busy reactor.
            if stopped_us >= STALL_US {
                self.stops[client].total_us += stopped_us;
            }
        }
    }

    pub(crate) fn delete_bdev(&mut self, client: usize) {
        if self.clients[client].deleted.is_some() || !process::is_alive(self.clients[client].process) {
            return;
        }
        self.model.clients[client].may_fail = true;
        self.clients[client].delete_began = self.active_us(client);
        self.clients[client].delete();
    }

    /// Ends all faults.
    pub(crate) fn heal(&mut self) {
        world::note(|| "all faults end".to_owned());
        net::heal();
        self.frames.heal();
        for (_, fault) in self.plan.faults.clone() {
            self.undo(fault);
        }
        for client in &self.clients {
            process::set_pauses(client.process, 0, 0);
        }
        for target in &self.targets {
            process::set_hiccups(target.process, 0, 0);
            store::set_errors(target.store, 0);
        }
        durable_file::set_failures(0);
        self.clients.iter_mut().for_each(|client| client.wanted = true);
        self.settle_owner();
    }
}

fn some_connection() -> Option<u64> {
    let all = net::connections();
    if all.is_empty() { None } else { Some(world::dice(|r| r.pick(&all))) }
}
