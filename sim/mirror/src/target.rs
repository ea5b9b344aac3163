//! A member or the witness: a disk behind a connection, that one process owns at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use world::rng::Rng;

use crate::disk::{Content, Disk};

/// What an operation does. Ranges are in blocks.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Reads blocks.
    Read { start: u64, count: u64 },
    /// Writes blocks.
    Write { start: u64, data: Vec<Content> },
    /// Makes everything that was executed durable.
    Flush,
}

impl What {
    /// Returns the number of blocks that are read or written.
    pub fn blocks(&self) -> u64 {
        match self {
            What::Read { count, .. } => *count,
            What::Write { data, .. } => data.len() as u64,
            What::Flush => 0,
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The operation was executed.
    Success,
    /// The operation may have been executed, also in part.
    Failed,
    /// As [`Status::Failed`], because the owner asked for an end.
    Aborted,
    /// The target belongs to another owner. Nothing of the refused one is executed from now on.
    Refused,
}

/// An operation on its way.
#[derive(Debug, Clone)]
pub struct Op {
    /// The process that sent the operation; processes are never numbered twice.
    pub process: u32,
    /// The process's name for the operation.
    pub request: u64,
    /// What the operation does.
    pub what: What,
    /// How the operation ends; decided in advance.
    pub status: Status,
    /// Whether the target has executed the operation.
    pub executed: bool,
    /// What was read.
    pub data: Vec<Content>,
}

/// What a target's device takes for requests, which it carries out in the order of their arrival. A
/// time is needed on the way there, and again on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// The requests that are carried out at once.
    pub units: usize,
    /// The time of each request, in ns.
    pub request_ns: u64,
    /// The time of each byte in addition, in ps.
    pub byte_ps: u64,
    /// The time of the way to the device, in ns.
    pub way_ns: u64,
}

/// The requests of a device.
#[derive(Debug, Clone)]
struct Device {
    service: Service,
    /// When each unit has done what it has, in ns.
    free_at: Vec<u64>,
}

impl Device {
    /// Returns when the device has carried out a request that is sent now, in ns.
    fn carry_out(&mut self, now: u64, bytes: u64) -> u64 {
        let Service { request_ns, byte_ps, way_ns, .. } = self.service;
        let unit = self.free_at.iter_mut().min().expect("a device has a unit");
        *unit = (*unit).max(now + way_ns) + request_ns + bytes * byte_ps / 1000;
        *unit
    }
}

/// A member or the witness.
#[derive(Debug)]
pub struct Target {
    /// The medium.
    pub disk: Disk,
    /// Whether the target has power.
    pub powered: bool,
    /// How many times as long as usual an operation takes.
    pub slow: u64,
    /// Operations that fail, of 1,000.
    pub errors: u64,
    /// Blocks that cannot be read until they are written.
    pub bad: BTreeSet<u64>,
    /// The host that owns the target.
    pub owner: Option<usize>,
    /// The number of the present ownership.
    pub number: u64,
    /// How often the power was lost.
    pub losses: u64,
    /// Blocks of which a power loss has taken an executed write, until they are written again.
    pub lost: BTreeSet<u64>,
    /// Operations on their way, by number.
    pub ops: BTreeMap<u64, Op>,
    /// The blocks without the metadata.
    data_blocks: u64,
    latency_us: (u64, u64),
    device: Option<Device>,
}

impl Target {
    /// Returns a target with this medium, of which so many blocks hold users' data.
    pub fn new(disk: Disk, data_blocks: u64, latency_us: (u64, u64)) -> Target {
        Target {
            disk,
            powered: true,
            slow: 1,
            errors: 0,
            bad: BTreeSet::new(),
            owner: None,
            number: 0,
            losses: 0,
            lost: BTreeSet::new(),
            ops: BTreeMap::new(),
            data_blocks,
            latency_us,
            device: None,
        }
    }

    /// Has a device carry out requests. Without one, each takes a random time.
    pub fn set_device(&mut self, service: Service) {
        self.device = Some(Device { service, free_at: vec![0; service.units] });
    }

    /// Returns when a request that is sent now is executed, in µs.
    pub fn executes_at(&mut self, now: u64, what: &What, rng: &mut Rng) -> u64 {
        let bytes = what.blocks() * u64::from(self.disk.block_size);
        match &mut self.device {
            Some(device) => device.carry_out(now * 1000, bytes).div_ceil(1000),
            None => now + self.latency(rng) / 2,
        }
    }

    /// Returns the time until the answer to a request arrives that was just executed, in µs.
    pub fn way_back(&self, rng: &mut Rng) -> u64 {
        match &self.device {
            Some(device) => device.service.way_ns / 1000,
            None => self.latency(rng) / 2,
        }
    }

    /// Returns a time for one operation, in microseconds.
    pub fn latency(&self, rng: &mut Rng) -> u64 {
        rng.range(self.latency_us.0, self.latency_us.1) * self.slow
    }

    /// Executes an operation, unless it was executed before. Returns true if it is now.
    pub fn execute(&mut self, id: u64, rng: &mut Rng) -> bool {
        let Some(op) = self.ops.get_mut(&id).filter(|op| !op.executed) else { return false };
        op.executed = true;
        let fails = op.status != Status::Success;
        match &op.what {
            What::Read { start, count } => {
                if (*start..start + count).any(|block| self.bad.contains(&block)) {
                    op.status = Status::Failed;
                }
                op.data = (*start..start + count).map(|block| self.disk.content(block).clone()).collect();
            }
            What::Write { start, data } => {
                for (block, content) in (*start..).zip(data) {
                    // An error says nothing about what was executed: all of it, a part, or nothing.
                    if !fails || rng.chance(500) {
                        self.disk.write(block, content.clone());
                        self.bad.remove(&block);
                        self.lost.remove(&block);
                    }
                }
            }
            What::Flush if fails => {}
            What::Flush => self.disk.flush(),
        }
        true
    }

    /// Loses the power. What is executed at the moment is executed in part. Returns the blocks of
    /// users' data that have lost a write.
    pub fn lose_power(&mut self, rng: &mut Rng) -> Vec<u64> {
        self.powered = false;
        self.losses += 1;
        for op in self.ops.values_mut() {
            match &op.what {
                What::Write { start, data } if !op.executed && rng.chance(300) => {
                    for (block, content) in (*start..).zip(data) {
                        match content {
                            Content::Bytes(bytes) if rng.chance(300) => {
                                self.disk.write_torn(block, bytes, rng);
                            }
                            _ if rng.chance(500) => {
                                self.disk.write(block, content.clone());
                                self.bad.remove(&block);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
            // What was not answered is executed again.
            op.executed = false;
        }
        let mut changed = self.disk.lose_power(rng);
        changed.retain(|block| *block < self.data_blocks);
        self.lost.extend(changed.iter().copied());
        changed
    }

    /// Ends what a process has here: a part of it is executed, nothing is any more afterwards.
    /// Returns the operations' numbers, with their requests.
    pub fn fence(&mut self, process: u32, rng: &mut Rng) -> Vec<(u64, u64)> {
        let ids: Vec<u64> =
            self.ops.iter().filter(|(_, op)| op.process == process).map(|(&id, _)| id).collect();
        let mut ended = Vec::new();
        for id in ids {
            if self.powered && rng.chance(500) {
                self.execute(id, rng);
            }
            if let Some(op) = self.ops.remove(&id) {
                ended.push((id, op.request));
            }
        }
        ended
    }
}

/// Returns the blocks of a piece of the mirror's own bytes.
pub fn blocks_of(bytes: &[u8], block_size: u32) -> Vec<Content> {
    bytes.chunks(block_size as usize).map(|chunk| Content::Bytes(Rc::from(chunk))).collect()
}
