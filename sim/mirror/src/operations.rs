//! Operations on their way to targets and back.

use world::rng::Rng;

use crate::disk::Content;
use crate::target::{Op, Status, What};
use crate::world::{Bdev, Event, Notice, Then, World};

impl World {
    /// Sends an operation to a target.
    pub fn submit(&mut self, host: usize, target: usize, request: u64, what: What) {
        self.note(|| {
            let text = match &what {
                What::Read { start, count } => format!("read {start}+{count}"),
                What::Write { start, data } => match data.first() {
                    Some(Content::Write(write)) => format!("write {start}+{} of {write}", data.len()),
                    _ => format!("write {start}+{} of metadata", data.len()),
                },
                What::Flush => "flush".to_owned(),
            };
            format!("host {host}: target {target}: request {request}: {text}")
        });
        if !self.is_open(host, target) {
            // The process will be told that the target is gone; the operation ends before that comes
            // back.
            let status = Status::Failed;
            return self.tell(host, Notice::Done { target, request, status, data: Vec::new() });
        }
        let op = self.stamp();
        let process = self.hosts[host].process;
        let at = &mut self.targets[target];
        let fails = self.rng.chance(at.errors);
        let status = if fails { Status::Failed } else { Status::Success };
        let executed_at = at.executes_at(self.now, &what, &mut self.rng);
        at.ops.insert(op, Op { process, request, what, status, executed: false, data: Vec::new() });
        self.at(executed_at, Event::Execute { target, op });
    }

    /// An operation arrives at its target.
    pub fn execute(&mut self, target: usize, id: u64) {
        let Some(op) = self.targets[target].ops.get(&id) else { return };
        let Some(host) = self.host_of(op.process) else {
            // Of a dead process; the fence decides what becomes of it, unless it comes first.
            if self.targets[target].powered && self.rng.chance(500) {
                self.targets[target].execute(id, &mut self.rng);
            }
            return;
        };
        if self.hosts[host].bdevs[target] == Bdev::Absent {
            let request = op.request;
            self.targets[target].ops.remove(&id);
            return self
                .tell(host, Notice::Done { target, request, status: Status::Failed, data: Vec::new() });
        }
        if !self.passes(host, target) {
            return;
        }
        if self.targets[target].owner != Some(host) {
            let Some(op) = self.targets[target].ops.remove(&id) else { return };
            let (request, status) = (op.request, Status::Refused);
            return self.tell(host, Notice::Done { target, request, status, data: Vec::new() });
        }
        if self.targets[target].execute(id, &mut self.rng) {
            self.note(|| format!("target {target}: executed op {id}"));
            let way = self.targets[target].way_back(&mut self.rng);
            self.after(way, Event::Finish { target, op: id });
        }
    }

    /// The answer to an operation arrives.
    pub fn finish(&mut self, target: usize, id: u64) {
        let Some(op) = self.targets[target].ops.get(&id).filter(|op| op.executed) else { return };
        let Some(host) = self.host_of(op.process) else { return };
        if !self.passes(host, target) {
            return;
        }
        if let Some(op) = self.targets[target].ops.remove(&id) {
            let Op { request, status, data, .. } = op;
            self.tell(host, Notice::Done { target, request, status, data });
        }
    }

    /// Continues what waited for a link or for the power.
    pub(crate) fn resume(&mut self, host: usize, target: usize) {
        self.hosts[host].trouble[target] = 0;
        let process = self.hosts[host].process;
        let waiting: Vec<(u64, bool)> = self.targets[target]
            .ops
            .iter()
            .filter(|(_, op)| op.process == process)
            .map(|(&id, op)| (id, op.executed))
            .collect();
        if let Bdev::Open { losses } = &mut self.hosts[host].bdevs[target]
            && *losses != self.targets[target].losses
        {
            *losses = self.targets[target].losses;
            self.tell(host, Notice::CacheLost { target });
        }
        if self.is_open(host, target) && self.targets[target].owner.is_some_and(|owner| owner != host) {
            self.refuse(host, target);
        } else if self.is_open(host, target) {
            self.tell(host, Notice::Reachable { target });
        }
        for (op, executed) in waiting {
            let latency = self.targets[target].latency(&mut self.rng) / 2;
            let event = if executed { Event::Finish { target, op } } else { Event::Execute { target, op } };
            self.after(latency, event);
        }
    }

    /// A target tells a former owner that it belongs to another host. What the former owner has
    /// there ends.
    pub(crate) fn refuse(&mut self, host: usize, target: usize) {
        self.tell(host, Notice::Refused { target });
        let process = self.hosts[host].process;
        for (_, request) in self.targets[target].fence(process, &mut Rng::new(0)) {
            self.tell(host, Notice::Done { target, request, status: Status::Refused, data: Vec::new() });
        }
        self.hosts[host].bdevs[target] = Bdev::Absent;
    }

    /// Ends all operations of a process at a target, after a lease at most.
    pub fn reset(&mut self, host: usize, target: usize) {
        let process = self.hosts[host].process;
        let lease = self.rng.below(self.lease_us);
        self.note(|| format!("host {host}: target {target}: reset"));
        self.after(lease, Event::Fence { host, process, target, then: Then::Reset });
    }

    /// Nothing of a process is executed at a target any more.
    pub fn fence(&mut self, host: usize, process: u32, target: usize, then: Then) {
        let is_alive = self.hosts[host].alive && self.hosts[host].process == process;
        if then != Then::Reset && is_alive && self.hosts[host].bdevs[target] != Bdev::Closing {
            return;
        }
        let passes = self.passes(host, target) || !is_alive;
        let ended = if passes {
            self.targets[target].fence(process, &mut self.rng)
        } else {
            // What has not arrived never will.
            let ids: Vec<(u64, u64)> = self.targets[target]
                .ops
                .iter()
                .filter(|(_, op)| op.process == process)
                .map(|(&id, op)| (id, op.request))
                .collect();
            ids.iter().for_each(|(id, _)| drop(self.targets[target].ops.remove(id)));
            ids
        };
        if !is_alive {
            return;
        }
        let status = if then == Then::Reset { Status::Aborted } else { Status::Failed };
        for (_, request) in ended {
            self.tell(host, Notice::Done { target, request, status, data: Vec::new() });
        }
        match then {
            Then::Close { again_us } => {
                self.hosts[host].bdevs[target] = Bdev::Absent;
                self.after(again_us, Event::Attach { host, process, target });
            }
            Then::Reset => self.tell(host, Notice::ResetDone { target }),
            Then::Nothing => {}
        }
    }
}
