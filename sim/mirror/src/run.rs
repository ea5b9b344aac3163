//! Runs one seed from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dst_mirror::mutation::{self, Mutation};

use crate::checks;
use crate::plan::{FAULTS_US, Plan};
use crate::state::{LOOK_US, Run, Stage};
pub use crate::state::{Outcome, Totals, Violation};
use crate::world::Event;

/// The time for which a mirror may take to be whole again once the faults are over.
const RECOVERY_US: u64 = 200_000_000;

/// The number of events after which a run is broken off: many times that of the longest good one.
const STEPS_MAX: u64 = 3_000_000;

/// Runs a plan, with one protection removed if a mutation is given.
pub fn run(plan: &Plan, mutation: Option<Mutation>, history: bool) -> Outcome {
    mutation::set(mutation);
    let mut outcome = Outcome::default();
    let mut run = Run::new(plan.clone(), history);
    let result = catch_unwind(AssertUnwindSafe(|| run.finish()));
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        run.violation = Some(Violation { rule: "panic".to_owned(), text: text.unwrap_or_default() });
    }
    mutation::set(None);
    run.totals.steps = run.world.steps;
    for owner in run.owners.iter().flatten().filter(|_| run.violation.is_none()) {
        run.totals.copied += owner.copied;
        run.totals.departures += owner.mirror.report().counts.departures;
        outcome.copying = owner.copying;
    }
    outcome.latencies = run.latencies;
    outcome.totals = run.totals;
    outcome.digest = run.world.digest;
    outcome.violation = run.violation.take();
    outcome.history = run.world.history.take().map(Vec::from).unwrap_or_default();
    outcome
}

impl Run {
    fn finish(&mut self) {
        while self.violation.is_none() && self.stage != Stage::Over {
            let Some(event) = self.world.pop() else {
                return self.violate("time", "nothing happens any more".to_owned());
            };
            if self.world.steps > STEPS_MAX {
                return self.violate("time", format!("{STEPS_MAX} events, and no end"));
            }
            self.happen(event);
            self.deliver();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Execute { target, op } => self.world.execute(target, op),
            Event::Finish { target, op } => self.world.finish(target, op),
            Event::Attach { host, process, target } => self.world.attach(host, process, target),
            Event::Fence { host, process, target, then } => self.world.fence(host, process, target, then),
            Event::Patience { host, process, target, trouble } => {
                self.world.lose_patience(host, process, target, trouble);
            }
            Event::Heard { host, process, target, number } => self.world.heard(host, process, target, number),
            Event::Claim { host, process, target, after } => self.world.claim(host, process, target, after),
            Event::KeepAlive { host, process, target } => self.world.keep_alive_due(host, process, target),
            Event::Confirm { host, process, target, sent } => self.world.confirm(host, process, target, sent),
            Event::Take { host, process } => self.take_devices(host, process),
            Event::PowerBack { target, losses } => {
                if self.world.targets[target].losses == losses {
                    self.trouble_us = self.world.now;
                    self.world.power_on(target);
                }
            }
            Event::Heal { host, target } => {
                self.trouble_us = self.world.now;
                self.world.heal(host, target, false);
            }
            Event::Well { target } => {
                self.trouble_us = self.world.now;
                (self.world.targets[target].slow, self.world.targets[target].errors) = (1, 0);
            }
            Event::Start { host } => self.start(host),
            Event::Continue { host, process } => self.resume(host, process),
            Event::Tick { host, process } => self.tick(host, process),
            Event::Turn { host, process } => self.turn(host, process),
            Event::Think { user } => self.think(user),
            Event::Arrive => self.arrive(),
            Event::Strike { index } => {
                let fault = self.plan.faults[index].1;
                self.strike(fault);
            }
            Event::Swap { host, member, for_us } => self.swap(host, member, for_us),
            Event::CutAndCrash { host, members, for_us } => self.cut_and_crash(host, members, for_us),
            Event::Look => self.look(),
        }
    }

    /// Looks how things are, and goes on to the next stage.
    fn look(&mut self) {
        self.world.after(LOOK_US, Event::Look);
        checks::look(self);
        self.operate();
        let now = self.world.now;
        let whole = self.whole();
        match self.stage {
            Stage::Faults if now > FAULTS_US || self.plan.faults.is_empty() && self.ios_left == 0 => {
                self.stage = Stage::Recovery { until: now + RECOVERY_US };
                self.heal();
            }
            Stage::Recovery { until } => {
                let is_idle = self.users.iter().all(|user| !user.busy);
                if whole.is_some() && is_idle && self.ios_left == 0 {
                    self.stage = Stage::ReadBack { until: now + RECOVERY_US, left: 2 };
                } else if now > until {
                    let reports: Vec<_> =
                        self.owners.iter().map(|owner| owner.as_ref().map(|o| o.mirror.report())).collect();
                    self.violate("recovery", format!("idle {is_idle}, not whole: {reports:?}"));
                }
            }
            Stage::ReadBack { until, left } if self.read_back.is_empty() => {
                if self.users.iter().any(|user| user.busy) {
                    if now > until {
                        self.violate("recovery", "blocks cannot be read".to_owned());
                    }
                } else if left == 0 {
                    checks::members_are_equal(self);
                    self.check_repairs();
                    self.stage = Stage::Over;
                } else {
                    self.stage = Stage::ReadBack { until, left: left - 1 };
                    self.read_back = self.model.known();
                    for user in 0..self.users.len() {
                        self.world.after(1, Event::Think { user });
                    }
                }
            }
            Stage::ReadBack { .. } => {
                for user in 0..self.users.len() {
                    self.world.after(1, Event::Think { user });
                }
            }
            _ => {}
        }
    }

    /// Returns the host whose mirror has all members in sync.
    fn whole(&self) -> Option<usize> {
        (0..self.plan.hosts).find(|&host| {
            self.owners[host].as_ref().is_some_and(|owner| {
                let reachable = self.world.hosts[host].unreachable.iter().filter(|is| !**is).count();
                let wanted = reachable - usize::from(self.plan.witness);
                owner.is_usable()
                    && !owner.superseded
                    && checks::in_sync(&self.plan, owner).iter().filter(|is| **is).count() >= wanted
            })
        })
    }
}
