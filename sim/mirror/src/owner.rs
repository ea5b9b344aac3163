//! A process that owns the mirror, or tries to: it carries out what the mirror's core wants done,
//! as the bdev module does.

use std::collections::BTreeMap;

use dst_mirror::takeover::Takeover;
use dst_mirror::{
    Assemble, Create, Device, Devices, Input, IoId, Mirror, Op, Outcome, Output, Rare, RequestId,
};
use world::rng::Rng;

use crate::disk::Content;
use crate::plan::Plan;
use crate::target::{What, blocks_of};

/// The bytes of a block, as far as they are compared: the number of the write that it holds.
const BLOCK: usize = 8;

/// An I/O of a user.
#[derive(Debug)]
pub struct UserIo {
    /// The user. `None`: the I/O is of the load.
    pub user: Option<usize>,
    /// The number of the I/O, which is what a write writes.
    pub number: u64,
    /// What it does.
    pub op: Op,
    /// The first block.
    pub start: u64,
    /// The number of blocks.
    pub count: u64,
    /// The stamp and the time of the submission.
    pub since: (u64, u64),
    /// What was read.
    pub data: Vec<Content>,
    /// Requests that use the buffer.
    pub in_use: usize,
}

impl UserIo {
    /// Returns the blocks.
    pub fn blocks(&self) -> std::ops::Range<u64> {
        self.start..self.start + self.count
    }
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Reads into a user's buffer.
    Read(IoId),
    /// Writes a user's buffer.
    Write(IoId),
    /// Reads into a slot.
    CopyRead(usize),
    /// Reads into the first slot, and compares it with the second one.
    Compare(usize, usize),
    /// Writes from a slot.
    CopyWrite(usize),
    /// Reads metadata.
    MetadataRead,
    /// Ends the requests of a target.
    Reset,
    /// Something without a buffer.
    Other,
}

/// A request of the mirror that has not ended.
#[derive(Debug)]
pub struct Request {
    /// The target.
    pub target: usize,
    /// What it is for.
    pub purpose: Purpose,
    /// The blocks that it changes or reads.
    pub blocks: std::ops::Range<u64>,
}

/// What the process does next.
#[allow(missing_docs, reason = "each says it in one line")]
#[derive(Debug)]
pub enum Do {
    /// Sends an operation to a target.
    Send { target: usize, request: u64, what: What },
    /// Resets a target.
    Reset { target: usize },
    /// Closes a target.
    Close { target: usize },
    /// Offers the mirror to users.
    Register,
    /// Completes a user's I/O.
    Complete { io: Box<UserIo>, success: bool },
    /// The mirror has ended: there was no mirror, or it is lost.
    Ended(String),
    /// Gives the mirror its turn to copy, after a time.
    WantTurn { bytes: u64 },
    /// A change of the members is answered.
    Changed(Result<(), String>),
    /// The mirror has stopped.
    Stopped,
    /// Prints a line.
    Log(String),
}

/// A process that owns the mirror.
pub struct Owner {
    /// The core.
    pub mirror: Mirror,
    /// Whether users can use the mirror.
    pub registered: bool,
    /// Whether the mirror has been told that another host owns one of its targets.
    pub refused: bool,
    /// Whether the mirror has said that it has ended.
    pub ended: bool,
    /// Whether another process has assembled the mirror since.
    pub superseded: bool,
    /// Users' I/O by the number that the mirror has for it.
    pub ios: BTreeMap<u32, UserIo>,
    /// Requests that have not ended, by their numbers and targets.
    pub requests: BTreeMap<(u32, usize), Request>,
    /// Whether the mirror has been told that each target is open.
    pub opened: Vec<bool>,
    /// The time of the next tick that was asked for.
    pub tick_at: Option<u64>,
    /// When copies were begun, and how many bytes each has.
    pub copies: Vec<(u64, u64)>,
    /// Bytes that were copied.
    pub copied: u64,
    /// When the first copy or comparison was begun, and the last one.
    pub copying: Option<(u64, u64)>,
    /// When comparisons were begun, and how many bytes each has.
    pub compares: Vec<(u64, u64)>,
    /// Whether the members are being compared, as far as was looked.
    pub is_verifying: bool,
    /// The target whose data the operator said to count.
    pub forced: Option<usize>,
    /// The takeover of the targets, if there is one.
    pub takeover: Option<Takeover>,
    /// The target that becomes a member when it is opened next.
    pub to_add: Option<usize>,
    /// The target that is being added, or removed, and whether it is a member then.
    pub changing: Option<(usize, bool)>,
    resets: BTreeMap<usize, u32>,
    slots: Vec<Vec<Content>>,
    plan: Plan,
}

/// Returns the target of a device.
pub fn target_of(plan: &Plan, device: Device) -> usize {
    if device == Device::WITNESS { plan.members } else { device.index() }
}

/// Returns the device of a target.
pub fn device_of(plan: &Plan, target: usize) -> Device {
    if target == plan.members { Device::WITNESS } else { Device(target as u8) }
}

impl Owner {
    /// Creates the mirror, or assembles the one that there is.
    pub fn new(plan: &Plan, create: bool, force: Option<usize>, rng: &mut Rng) -> Owner {
        let mut dice = Rng::new(rng.bits());
        let identifiers = Box::new(move || u128::from(dice.bits()) << 64 | u128::from(dice.bits()) | 1);
        let mirror = if create {
            let members = (0..plan.members).map(|member| format!("m{member}")).collect();
            let witness = plan.witness.then(|| "w".to_owned());
            let what = Create { members, witness, force: true, is_equal: !plan.dirty };
            Mirror::create(what, plan.options, identifiers)
        } else {
            let force = force.map(|target| device_of(plan, target));
            let what = Assemble { members: plan.members, has_witness: plan.witness, force };
            Mirror::assemble(what, plan.options, identifiers)
        };
        Owner {
            mirror,
            registered: false,
            refused: false,
            ended: false,
            superseded: false,
            ios: BTreeMap::new(),
            requests: BTreeMap::new(),
            opened: vec![false; plan.targets()],
            tick_at: None,
            copies: Vec::new(),
            copied: 0,
            copying: None,
            compares: Vec::new(),
            is_verifying: false,
            forced: force,
            takeover: None,
            to_add: None,
            changing: None,
            resets: BTreeMap::new(),
            slots: vec![Vec::new(); usize::from(plan.options.copy_slots)],
            plan: plan.clone(),
        }
    }

    /// Returns whether the process is still taking the targets over.
    pub fn is_taking(&self) -> bool {
        self.takeover.as_ref().is_some_and(Takeover::withholds)
    }

    /// Returns whether users can use the mirror.
    pub fn is_usable(&self) -> bool {
        self.registered && !self.ended
    }

    /// Takes a user's I/O. Returns what the mirror is to be told.
    pub fn submit(&mut self, io: UserIo) -> Input {
        let id = (0..).find(|id| !self.ios.contains_key(id)).unwrap_or(0);
        let range = dst_mirror::Extent { start: io.start, count: io.count };
        let op = io.op;
        self.ios.insert(id, io);
        Input::Submit { io: IoId(id), op, range }
    }

    /// A request has ended. Returns what the mirror is to be told.
    pub fn done(&mut self, request: u64, outcome: Outcome, data: Vec<Content>) -> Result<Input, String> {
        let (id, target) = (RequestId((request / TARGETS) as u32), (request % TARGETS) as usize);
        let Some(found) = self.requests.remove(&(id.0, target)) else {
            return Err(format!("the simulator ends the unknown request {request}"));
        };
        let success = outcome == Outcome::Success;
        match found.purpose {
            Purpose::Read(io) | Purpose::Write(io) => {
                if let Some(user) = self.ios.get_mut(&io.0) {
                    user.in_use -= 1;
                    if success && matches!(found.purpose, Purpose::Read(_)) {
                        user.data = data;
                    }
                }
            }
            Purpose::CopyRead(slot) => {
                // A read that has failed leaves anything in the buffer.
                let alien = Content::Write(u64::MAX);
                self.slots[slot] = if success { data } else { vec![alien; found.blocks.count()] };
            }
            Purpose::Compare(slot, with) => {
                let alien = Content::Write(u64::MAX);
                let start = found.blocks.start;
                self.slots[slot] = if success { data } else { vec![alien; found.blocks.count()] };
                if success {
                    let bytes = |slot: usize| -> Vec<u8> {
                        let mut bytes = vec![0; self.slots[slot].len() * BLOCK];
                        for (content, bytes) in self.slots[slot].iter().zip(bytes.chunks_exact_mut(BLOCK)) {
                            match content {
                                Content::Write(write) => bytes.copy_from_slice(&write.to_le_bytes()),
                                Content::Bytes(_) => return Vec::new(),
                            }
                        }
                        bytes
                    };
                    let differing = dst_mirror::differences(&bytes(with), &bytes(slot), start, BLOCK);
                    return Ok(Input::Compared { request: id, differing });
                }
            }
            Purpose::MetadataRead if success => {
                let size = self.plan.block_size as usize;
                let mut bytes = vec![0; data.len() * size];
                for (content, bytes) in data.iter().zip(bytes.chunks_exact_mut(size)) {
                    content.fill(bytes);
                }
                return Ok(Input::MetadataRead { request: id, bytes });
            }
            _ => {}
        }
        Ok(Input::Done { request: id, device: device_of(&self.plan, target), outcome })
    }

    /// A reset has ended. Returns the request.
    pub fn reset_done(&mut self, target: usize) -> Option<u64> {
        self.resets.remove(&target).map(|request| key(request, target))
    }

    /// Returns the operation that an output of the mirror asks for.
    ///
    /// # Errors
    ///
    /// The mirror has asked for something that it must not.
    pub fn carry_out(&mut self, now: u64, output: Output) -> Result<Do, String> {
        let plan = &self.plan;
        if matches!(output, Output::CopyRead { .. } | Output::CompareRead { .. }) {
            self.copying = Some((self.copying.map_or(now, |(first, _)| first), now));
        }
        let (request, device, purpose, blocks, what) = match output {
            Output::Read { request, device, io, range } => {
                let user = self.ios.get_mut(&io.0).ok_or("5: a read for an I/O that is not there")?;
                if user.op != Op::Read
                    || user.in_use > 0
                    || (range.start, range.count) != (user.start, user.count)
                {
                    return Err(format!(
                        "5: a read of {range:?} into a buffer in use or of another I/O: {user:?}"
                    ));
                }
                user.in_use += 1;
                let what = What::Read { start: range.start, count: range.count };
                (request, device, Purpose::Read(io), range, what)
            }
            Output::Write { request, devices, io, range } => {
                let device = only(devices);
                let user = self.ios.get_mut(&io.0).ok_or("6: a write for an I/O that is not there")?;
                if (range.start, range.count) != (user.start, user.count) {
                    return Err(format!("6: a write of {range:?} for {user:?}"));
                }
                user.in_use += 1;
                let data = match user.op {
                    Op::Write => vec![Content::Write(user.number); user.count as usize],
                    // The repair of a block that another member could not read.
                    Op::Read => user.data.clone(),
                    other => return Err(format!("6: a write for {other:?}")),
                };
                if data.len() as u64 != user.count {
                    return Err("5: a repair from a buffer that nothing was read into".to_owned());
                }
                (request, device, Purpose::Write(io), range, What::Write { start: range.start, data })
            }
            Output::WriteZeroes { request, devices, range } => {
                // No two of the users' are outstanding with one range.
                let is_it =
                    |io: &&UserIo| (io.op, io.start, io.count) == (Op::WriteZeroes, range.start, range.count);
                let io = self.ios.values().find(is_it).ok_or("6: zeroes that nobody wants")?;
                let data = vec![Content::Write(io.number); range.count as usize];
                (request, only(devices), Purpose::Other, range, What::Write { start: range.start, data })
            }
            Output::Flush { request, device } => {
                let nothing = dst_mirror::Extent { start: 0, count: 0 };
                (request, device, Purpose::Other, nothing, What::Flush)
            }
            Output::CopyRead { request, device, slot, range } => {
                let slot = usize::from(slot.0);
                self.check_slot(slot, range.count, true)?;
                let what = What::Read { start: range.start, count: range.count };
                (request, device, Purpose::CopyRead(slot), range, what)
            }
            Output::CompareRead { request, device, slot, with, range } => {
                let (slot, with) = (usize::from(slot.0), usize::from(with.0));
                self.check_slot(slot, range.count, true)?;
                self.check_slot(with, range.count, false)?;
                if self.slots[with].len() as u64 != range.count || slot == with {
                    return Err(format!("15: slot {with} does not hold {range:?}"));
                }
                self.compares.push((now, range.count * u64::from(plan.block_size)));
                let what = What::Read { start: range.start, count: range.count };
                (request, device, Purpose::Compare(slot, with), range, what)
            }
            Output::CopyWrite { request, device, slot, range } => {
                let slot = usize::from(slot.0);
                self.check_slot(slot, range.count, false)?;
                let data = self.slots[slot].clone();
                if data.len() as u64 != range.count {
                    return Err(format!("12: slot {slot} holds {} blocks, not {range:?}", data.len()));
                }
                let bytes = range.count * u64::from(plan.block_size);
                self.copies.push((now, bytes));
                self.copied += bytes;
                (request, device, Purpose::CopyWrite(slot), range, What::Write { start: range.start, data })
            }
            Output::MetadataRead { request, device, range } => {
                let what = What::Read { start: range.start, count: range.count };
                (request, device, Purpose::MetadataRead, range, what)
            }
            Output::Reset { request, device } => {
                let target = target_of(plan, device);
                if self.resets.insert(target, request.0).is_some() {
                    return Err(format!("11: a second reset of target {target}"));
                }
                let found = Request { target, purpose: Purpose::Reset, blocks: 0..0 };
                self.requests.insert((request.0, target), found);
                return Ok(Do::Reset { target });
            }
            Output::Close { device } => {
                let target = target_of(plan, device);
                self.opened[target] = false;
                return Ok(Do::Close { target });
            }
            Output::Complete { io, status } => {
                let io = self.ios.remove(&io.0).ok_or("1: an I/O is completed twice")?;
                if io.in_use > 0 {
                    return Err(format!("6: completed while requests use the buffer: {io:?}"));
                }
                return Ok(Do::Complete { io: Box::new(io), success: status == dst_mirror::Status::Success });
            }
            Output::WantTurn { bytes } => return Ok(Do::WantTurn { bytes }),
            Output::Rare(rare) => match *rare {
                Rare::MetadataWrite { request, device, range, bytes } => {
                    let data = blocks_of(&bytes, plan.block_size);
                    if data.len() as u64 != range.count {
                        return Err(format!("13: {} bytes of metadata for {range:?}", bytes.len()));
                    }
                    if device != Device::WITNESS && range.start < plan.blocks {
                        return Err(format!("13: metadata at {range:?}, within the {} blocks", plan.blocks));
                    }
                    (request, device, Purpose::Other, range, What::Write { start: range.start, data })
                }
                Rare::Register { blocks, block_size, .. } => {
                    if (blocks, block_size) != (plan.blocks, plan.block_size) {
                        return Err(format!("13: {blocks} blocks of {block_size} bytes are registered"));
                    }
                    if std::mem::replace(&mut self.registered, true) {
                        return Err("registered twice".to_owned());
                    }
                    return Ok(Do::Register);
                }
                Rare::Ended { why } => {
                    self.ended = true;
                    return Ok(Do::Ended(why));
                }
                Rare::Changed { result } => return Ok(Do::Changed(result)),
                Rare::Stopped { .. } => return Ok(Do::Stopped),
                Rare::Log { text, .. } => return Ok(Do::Log(text)),
            },
        };
        let target = target_of(plan, device);
        if self.refused {
            return Err(format!("10: a request to target {target} after another host took one: {what:?}"));
        }
        if !self.opened[target] {
            return Err(format!("11: a request to target {target}, which is not open: {what:?}"));
        }
        let is_metadata = matches!(purpose, Purpose::MetadataRead) || matches!(what, What::Flush);
        let is_own =
            matches!(&what, What::Write { data, .. } if matches!(data.first(), Some(Content::Bytes(_))));
        if !is_metadata && !is_own && (target == plan.members || range_end(&blocks) > plan.blocks) {
            return Err(format!("13: data beyond the mirror at target {target}: {blocks:?}"));
        }
        if request.0 >= self.mirror.requests_max() {
            return Err(format!("12: request {} of {}", request.0, self.mirror.requests_max()));
        }
        let found = Request { target, purpose, blocks: blocks.start..range_end(&blocks) };
        // The parts of a write to several targets have one number.
        let is_other = |other: &Request| {
            other.target == target || (&other.purpose, &other.blocks) != (&found.purpose, &found.blocks)
        };
        if self.requests.range((request.0, 0)..(request.0 + 1, 0)).any(|(_, other)| is_other(other)) {
            return Err(format!("12: request {} is used twice", request.0));
        }
        self.requests.insert((request.0, target), found);
        Ok(Do::Send { target, request: key(request.0, target), what })
    }

    /// Returns whether a slot exists, holds so many blocks, and is not being filled, nor used at
    /// all if it is to be filled.
    fn check_slot(&self, slot: usize, count: u64, fills: bool) -> Result<(), String> {
        let is_used = self.requests.values().any(|request| match request.purpose {
            Purpose::CopyRead(other) => other == slot,
            Purpose::Compare(other, with) => other == slot || fills && with == slot,
            // One slot may be written to several members at once.
            Purpose::CopyWrite(other) => fills && other == slot,
            _ => false,
        });
        if slot >= self.slots.len() || is_used {
            return Err(format!("12: slot {slot} of {} is in use", self.slots.len()));
        }
        if count * u64::from(self.plan.block_size) > u64::from(self.plan.options.copy_bytes) {
            return Err(format!("12: {count} blocks do not fit into a slot"));
        }
        Ok(())
    }
}

/// Returns an output as one for each of its devices.
pub fn parts(output: Output) -> Vec<Output> {
    match output {
        Output::Write { request, devices, io, range } => devices
            .iter()
            .map(|device| Output::Write { request, devices: Devices::of(device), io, range })
            .collect(),
        Output::WriteZeroes { request, devices, range } => devices
            .iter()
            .map(|device| Output::WriteZeroes { request, devices: Devices::of(device), range })
            .collect(),
        other => vec![other],
    }
}

/// Returns the device of a part of an output.
fn only(devices: Devices) -> Device {
    devices.iter().next().expect("a part has a device")
}

/// More than there are targets.
const TARGETS: u64 = 16;

/// Returns the number that a request has at a target in the simulated world.
fn key(request: u32, target: usize) -> u64 {
    u64::from(request) * TARGETS + target as u64
}

fn range_end(range: &dst_mirror::Extent) -> u64 {
    range.start + range.count
}
