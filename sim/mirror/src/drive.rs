//! Processes and their mirrors: a mirror is told what happens, and what it wants is done.

use dst_mirror::takeover::Takeover;
use dst_mirror::{Input, Op, Outcome as Ending, Output};

use crate::checks;
use crate::owner::{Do, Owner, UserIo, device_of, parts};
use crate::state::{Latency, Run, Stage};
use crate::target::{Status, What};
use crate::world::{Event, Notice};

impl Run {
    /// A mirror's time has come.
    pub(crate) fn tick(&mut self, host: usize, process: u32) {
        let at = &self.world.hosts[host];
        if !at.alive || at.stopped || at.process != process {
            return;
        }
        let now = self.world.now;
        if let Some(owner) = &mut self.owners[host]
            && owner.tick_at.is_some_and(|at| at <= now)
        {
            owner.tick_at = None;
            self.tell(host, Input::Tick);
        }
    }

    /// A mirror has its turn to copy, unless its process has died. One that is stopped has it later.
    pub(crate) fn turn(&mut self, host: usize, process: u32) {
        let at = &self.world.hosts[host];
        if at.alive && at.process == process {
            match at.stopped {
                true => self.world.after(10_000, Event::Turn { host, process }),
                false => self.tell(host, Input::Turn),
            }
        }
    }

    /// Tells processes what they are to be told.
    pub(crate) fn deliver(&mut self) {
        for host in 0..self.world.hosts.len() {
            while self.violation.is_none() {
                let at = &mut self.world.hosts[host];
                if !at.alive || at.stopped {
                    break;
                }
                let Some(notice) = at.inbox.pop_front() else { break };
                self.notice(host, notice);
            }
        }
    }

    fn notice(&mut self, host: usize, notice: Notice) {
        if matches!(notice, Notice::CacheLost { .. } | Notice::Opened { .. }) {
            // What has been read from others since the loss may still go.
            checks::excuse_losses(self);
        }
        if let Notice::Opened { target } = notice
            && self.owners[host].as_ref().is_some_and(|owner| owner.to_add == Some(target))
        {
            self.begin_adding(host, target);
        }
        if let Notice::Refused { target } | Notice::Done { target, status: Status::Refused, .. } = notice
            && self.misses(host, target)
            && let Some(owner) = &mut self.owners[host]
        {
            owner.refused = true;
            self.world.hosts[host].wants = false;
        }
        let Some(owner) = &mut self.owners[host] else { return };
        if matches!(notice, Notice::Opened { .. }) && owner.is_taking() {
            return;
        }
        let device = |target| device_of(&self.plan, target);
        let input = match notice {
            Notice::Opened { target } => {
                owner.opened[target] = true;
                let disk = &self.world.targets[target].disk;
                let (blocks, block_size) = (disk.num_blocks, disk.block_size);
                Input::Opened { device: device(target), blocks, block_size }
            }
            Notice::Gone { target } => {
                owner.opened[target] = false;
                Input::Gone { device: device(target) }
            }
            Notice::Refused { target } => {
                owner.opened[target] = false;
                Input::Refused { device: device(target) }
            }
            Notice::CacheLost { target } => Input::CacheLost { device: device(target) },
            Notice::Reachable { target } => Input::Reachable { device: device(target) },
            Notice::Done { request, status, data, .. } => {
                let ending = match status {
                    Status::Success => Ending::Success,
                    Status::Failed | Status::Aborted => Ending::Failed,
                    Status::Refused => Ending::Refused,
                };
                match owner.done(request, ending, data) {
                    Ok(input) => input,
                    Err(text) => return self.violate("simulator", text),
                }
            }
            Notice::ResetDone { target } => {
                let Some(request) = owner.reset_done(target) else { return };
                match owner.done(request, Ending::Success, Vec::new()) {
                    Ok(input) => input,
                    Err(text) => return self.violate("simulator", text),
                }
            }
        };
        self.tell(host, input);
    }

    /// Tells a mirror something, and does what it wants done.
    pub(crate) fn tell(&mut self, host: usize, input: Input) {
        let now = self.world.now;
        let Some(owner) = &mut self.owners[host] else { return };
        owner.mirror.handle(now, input);
        self.decisions.observe(&self.plan, host, || owner.mirror.report());
        while self.violation.is_none() {
            let Some(owner) = &mut self.owners[host] else { break };
            let Some(output) = owner.mirror.poll_output() else { break };
            self.carry_out(host, now, output);
        }
        checks::members_in_sync(self, host);
        let Some(owner) = &mut self.owners[host] else { return };
        let deadline = owner.mirror.next_deadline();
        if let Some(at) = deadline
            && owner.tick_at != deadline
        {
            owner.tick_at = deadline;
            let process = self.world.hosts[host].process;
            self.world.at(at, Event::Tick { host, process });
        }
    }

    fn carry_out(&mut self, host: usize, now: u64, output: Output) {
        for part in parts(output) {
            let Some(owner) = &mut self.owners[host] else { return };
            match owner.carry_out(now, part) {
                Ok(what) => self.perform(host, what),
                Err(text) => {
                    let (rule, text) = text.split_once(": ").unwrap_or(("output", &text));
                    return self.violate(rule, text.to_owned());
                }
            }
        }
    }

    fn perform(&mut self, host: usize, what: Do) {
        match what {
            Do::Send { target, request, what } => {
                if matches!(&what, What::Write { start, .. } if *start < self.plan.blocks)
                    && target < self.plan.members
                    && self.is_protected(host, target)
                {
                    self.violate("8", format!("member {target} has diverged and is overwritten: {what:?}"));
                }
                self.world.submit(host, target, request, what);
            }
            Do::Reset { target } => self.world.reset(host, target),
            Do::Close { target } => self.world.close(host, target),
            Do::Register => self.registered(host),
            Do::Complete { io, success } => self.completed(host, &io, success),
            Do::WantTurn { bytes } => {
                // As if the mirrors of the process had 16 MB a second in common.
                let process = self.world.hosts[host].process;
                self.world.after(bytes / 16, Event::Turn { host, process });
            }
            Do::Changed(result) => self.changed(host, result),
            Do::Ended(why) => self.world.note(|| format!("host {host}: ended: {why}")),
            Do::Stopped => {
                self.world.note(|| format!("host {host}: stopped"));
                self.crash(host, 100_000);
            }
            Do::Log(text) => self.world.note(|| format!("host {host}: {text}")),
        }
    }

    /// The mirror is assembled.
    pub(crate) fn registered(&mut self, host: usize) {
        self.world.note(|| format!("host {host}: the mirror can be used"));
        self.created = true;
        self.totals.assemblies += 1;
        if self.world.hosts[host].inbox.iter().any(|notice| matches!(notice, Notice::Refused { .. })) {
            // The process was stopped, and hears next that another one has the mirror.
            if let Some(owner) = &mut self.owners[host] {
                owner.superseded = true;
            }
            return;
        }
        let now = self.world.stamp();
        for (other, owner) in self.owners.iter_mut().enumerate() {
            let Some(owner) = owner.as_mut().filter(|_| other != host) else { continue };
            // One that is still taking targets over comes after this one.
            owner.superseded = !owner.is_taking();
            let writes = owner.ios.values().filter(|io| matches!(io.op, Op::Write | Op::WriteZeroes));
            self.adrift.extend(writes.map(|io| (io.number, io.blocks())));
        }
        let is_decided = checks::assembled(self, host, now);
        self.check_members(host, is_decided);
        for (write, blocks) in std::mem::take(&mut self.adrift) {
            self.model.settle(write, blocks, now);
        }
    }

    fn completed(&mut self, host: usize, io: &UserIo, success: bool) {
        self.world
            .note(|| format!("host {host}: I/O {} {}", io.number, if success { "done" } else { "failed" }));
        self.totals.ios += 1;
        self.totals.failed += u64::from(!success);
        if !self.plan.devices.is_empty() {
            self.latencies.push(Latency { op: io.op, at: io.since.1, us: self.world.now - io.since.1 });
        }
        self.free_user(io.user, self.plan.think_us);
        // The first flush after a loss fails, however much later it is (rule 14).
        let is_first_flush = io.op == Op::Flush && self.flush_us < self.trouble_us;
        if io.op == Op::Flush {
            self.flush_us = self.world.now;
        }
        let is_well = self.plan.faults.is_empty() || self.stage != Stage::Faults && self.is_long_well();
        if !success && is_well && !is_first_flush {
            return self.violate("11", format!("I/O {} failed, and nothing is wrong", io.number));
        }
        checks::completed(self, host, io, success);
    }

    /// Returns whether nothing has gone wrong for a time.
    pub(crate) fn is_long_well(&self) -> bool {
        self.world.now > self.trouble_us + 10_000_000
    }

    /// A process drops its mirror.
    pub(crate) fn abandon(&mut self, host: usize) {
        let Some(owner) = self.owners[host].take() else { return };
        self.totals.copied += owner.copied;
        self.totals.departures += owner.mirror.report().counts.departures;
        for io in owner.ios.into_values() {
            if matches!(io.op, Op::Write | Op::WriteZeroes) {
                self.adrift.push((io.number, io.blocks()));
            }
            self.free_user(io.user, 200_000);
        }
    }

    /// A host's process dies, and starts again after a time.
    pub(crate) fn crash(&mut self, host: usize, for_us: u64) {
        if self.world.hosts[host].alive {
            self.world.crash(host);
            self.abandon(host);
            self.world.after(for_us, Event::Start { host });
        }
    }

    /// A host's process starts. The first host's creates the mirror, or assembles it.
    pub(crate) fn start(&mut self, host: usize) {
        if self.world.hosts[host].alive {
            return;
        }
        let process = self.next_process;
        self.next_process += 1;
        self.world.start(host, process);
        // A standby does nothing until it takes over. It is one as long as another host has all.
        let is_standby = !self.created && host != 0
            || self.owners.iter().enumerate().any(|(other, owner)| other != host && owner.is_some());
        if !is_standby {
            self.own(host, false, None);
        }
    }

    /// A process creates or assembles the mirror.
    pub(crate) fn own(&mut self, host: usize, takes: bool, force: Option<usize>) {
        self.idle_since = self.world.now;
        let mut owner = Owner::new(&self.plan, !self.created, force, &mut self.world.rng);
        let is_orderly = self.plan.is_orderly && takes;
        if is_orderly {
            let wait_us = self.plan.options.degraded_wait_ms * 1000;
            owner.takeover =
                Some(Takeover::new(self.plan.members, self.plan.witness, self.world.now, wait_us));
        }
        self.owners[host] = Some(owner);
        self.decisions.begin(host);
        let at = &mut self.world.hosts[host];
        (at.wants, at.takes, at.is_orderly) = (true, takes, is_orderly);
        if is_orderly {
            self.has_takers = true;
            let process = at.process;
            self.world.after(1, Event::Take { host, process });
        }
        self.world.note(|| format!("host {host}: creates or assembles the mirror, takes: {takes}"));
        self.tell(host, Input::Tick);
        self.world.open_all(host);
    }
}
