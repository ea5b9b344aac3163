//! Disks and a driver for tests: requests are carried out at once, unless a device hangs or fails.

use std::collections::{BTreeMap, VecDeque};

use crate::differences::differences;
use crate::handles::{Device, IoId};
use crate::input::{Input, Op, Outcome};
use crate::metadata::{METADATA_BYTES, WITNESS_BYTES};
use crate::mirror::Mirror;
use crate::options::Options;
use crate::output::{Output, Rare, Status};
use crate::report::{Condition, State};
use crate::{Assemble, Create, Extent};

/// The size of a block in bytes.
pub(crate) const BLOCK: u32 = 4096;

/// The number of blocks that users see.
pub(crate) const BLOCKS: u64 = 64 * 256;

/// A disk: a number in each data block, and metadata behind them.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) data: Vec<u64>,
    metadata: BTreeMap<u64, Vec<u8>>,
    pub(crate) blocks: u64,
}

impl Disk {
    fn member() -> Disk {
        let blocks = BLOCKS + METADATA_BYTES / u64::from(BLOCK);
        Disk { data: vec![0; BLOCKS as usize], metadata: BTreeMap::new(), blocks }
    }

    pub(crate) fn witness() -> Disk {
        Disk { data: Vec::new(), metadata: BTreeMap::new(), blocks: WITNESS_BYTES / u64::from(BLOCK) }
    }

    /// Takes so many blocks from the end.
    pub(crate) fn shrink(&mut self, blocks: u64) {
        self.blocks -= blocks * 16;
    }

    /// Adds so many blocks at the end.
    pub(crate) fn grow(&mut self, blocks: u64) {
        self.blocks += blocks * 16;
    }

    fn fill(&mut self, range: Extent, values: &[u64]) {
        self.data[range.start as usize..range.end() as usize].copy_from_slice(values);
    }

    fn get(&self, range: Extent) -> Vec<u64> {
        self.data[range.start as usize..range.end() as usize].to_vec()
    }

    fn read_metadata(&self, range: Extent) -> Vec<u8> {
        let zeroes = vec![0; BLOCK as usize];
        let block = |at| match self.data.get(at as usize) {
            Some(&value) if value != 0 => vec![1; BLOCK as usize],
            _ => self.metadata.get(&at).unwrap_or(&zeroes).clone(),
        };
        (range.start..range.end()).flat_map(block).collect()
    }

    fn write_metadata(&mut self, range: Extent, bytes: &[u8]) {
        assert!(range.start >= self.data.len() as u64, "metadata over data");
        for (at, block) in (range.start..range.end()).zip(bytes.chunks(BLOCK as usize)) {
            self.metadata.insert(at, block.to_vec());
        }
    }
}

/// What a device does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    /// Requests are carried out when the device goes on.
    Hung,
    /// Requests fail.
    Failing,
    /// Reads fail that overlap this range.
    Unreadable(Extent),
    /// Only metadata hang.
    MetadataHung,
    /// Only flushes hang.
    FlushHung,
    /// Only users' writes hang.
    WritesHung,
    /// Only the writes of copies hang.
    CopiesHung,
    /// The device is not open, and is not opened.
    Away,
}

/// A mirror with its disks and users.
pub(crate) struct World {
    pub(crate) mirror: Mirror,
    pub(crate) disks: Vec<Disk>,
    pub(crate) health: Vec<Health>,
    pub(crate) now: u64,
    pub(crate) done: BTreeMap<u32, Status>,
    pub(crate) log: Vec<String>,
    /// Requests that were sent, in their order, but for metadata.
    pub(crate) sent: Vec<Output>,
    pub(crate) registered: usize,
    pub(crate) ended: Option<String>,
    pub(crate) is_stopped: bool,
    pub(crate) wiped: Vec<Device>,
    /// The answer to the last change of the members.
    pub(crate) changed: Option<Result<(), String>>,
    /// The turns that the mirror has asked for.
    pub(crate) wanted: Vec<u64>,
    members: usize,
    has_witness: bool,
    held: VecDeque<(Device, Output)>,
    buffers: BTreeMap<u32, Vec<u64>>,
    slots: BTreeMap<u16, Vec<u64>>,
    next_io: u32,
    is_open: Vec<bool>,
}

pub(crate) fn options() -> Options {
    Options {
        ios_max: 64,
        copy_slots: 2,
        copy_bytes: 64 * BLOCK,
        hot_max: 8,
        extents_max: 64,
        ..Options::default()
    }
}

fn identifiers(mut next: u128) -> Box<dyn FnMut() -> u128> {
    Box::new(move || {
        next += 1;
        next
    })
}

impl World {
    fn with(mirror: Mirror, disks: Vec<Disk>, now: u64, (members, has_witness): (usize, bool)) -> World {
        World {
            mirror,
            disks,
            health: vec![Health::Good; Device::COUNT],
            now,
            done: BTreeMap::new(),
            log: Vec::new(),
            sent: Vec::new(),
            registered: 0,
            ended: None,
            is_stopped: false,
            wiped: Vec::new(),
            changed: None,
            wanted: Vec::new(),
            members,
            has_witness,
            held: VecDeque::new(),
            buffers: BTreeMap::new(),
            slots: BTreeMap::new(),
            next_io: 0,
            is_open: vec![false; Device::COUNT],
        }
    }

    /// Creates a mirror of equal members.
    pub(crate) fn create(members: usize, has_witness: bool, options: Options) -> World {
        let call = Create {
            members: (0..members).map(|at| format!("m{at}")).collect(),
            witness: has_witness.then(|| "w".to_owned()),
            force: false,
            is_equal: true,
        };
        let mut disks: Vec<Disk> = (0..Device::COUNT).map(|_| Disk::member()).collect();
        disks[Device::WITNESS.index()] = Disk::witness();
        let mut world =
            World::with(Mirror::create(call, options, identifiers(1000)), disks, 1, (members, has_witness));
        for at in members..Device::WITNESS.index() {
            world.health[at] = Health::Away;
        }
        if !has_witness {
            world.health[Device::WITNESS.index()] = Health::Away;
        }
        world.open_all();
        assert_eq!(world.registered, 1, "{:?}", world.log);
        world
    }

    /// The host dies, and another one assembles the mirror from the devices that are good.
    pub(crate) fn reassemble(self, options: Options, force: Option<Device>) -> World {
        let members = self.members;
        let call = Assemble { members, has_witness: self.has_witness, force };
        let seed = self.now as u128 * 1_000_000;
        let mut world = World::with(
            Mirror::assemble(call, options, identifiers(seed)),
            self.disks,
            self.now + 1000,
            (members, self.has_witness),
        );
        world.health = self.health;
        world.open_all();
        world
    }

    pub(crate) fn set(&mut self, device: u8, health: Health) {
        self.health[usize::from(device)] = health;
    }

    pub(crate) fn open_all(&mut self) {
        self.open_due();
        self.run();
    }

    pub(crate) fn open_due(&mut self) {
        for device in Device::all() {
            let at = device.index();
            if !self.is_open[at] && self.health[at] != Health::Away && !self.has_requests(device) {
                self.is_open[at] = true;
                let blocks = self.disks[at].blocks;
                self.input(Input::Opened { device, blocks, block_size: BLOCK });
            }
        }
    }

    fn has_requests(&self, device: Device) -> bool {
        self.held.iter().any(|(of, _)| *of == device)
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.mirror.handle(self.now, input);
    }

    /// The device is removed: its requests fail.
    pub(crate) fn remove(&mut self, device: u8) {
        let device = Device(device);
        self.is_open[device.index()] = false;
        self.health[device.index()] = Health::Away;
        self.input(Input::Gone { device });
        self.fail_held(device);
        self.run();
    }

    fn fail_held(&mut self, device: Device) {
        let held = std::mem::take(&mut self.held);
        for (of, output) in held {
            if of == device {
                self.answer(device, &output, Outcome::Failed);
            } else {
                self.held.push_back((of, output));
            }
        }
    }

    /// A device that hung or failed is good again.
    pub(crate) fn mend(&mut self, device: u8) {
        self.set(device, Health::Good);
        let held = std::mem::take(&mut self.held);
        for (of, output) in held {
            if of == Device(device) {
                self.carry_out(of, output);
            } else {
                self.held.push_back((of, output));
            }
        }
        self.run();
    }

    /// A device that hung is good again, but fails what it had.
    pub(crate) fn lose(&mut self, device: u8) {
        self.set(device, Health::Good);
        self.fail_held(Device(device));
        self.run();
    }

    /// Submits an I/O, and returns its number.
    pub(crate) fn submit(&mut self, op: Op, start: u64, count: u64, value: u64) -> u32 {
        let io = self.next_io % 64;
        self.next_io += 1;
        self.done.remove(&io);
        self.buffers.insert(io, vec![value; count as usize]);
        self.input(Input::Submit { io: IoId(io), op, range: Extent::new(start, count) });
        self.run();
        io
    }

    pub(crate) fn write(&mut self, start: u64, count: u64, value: u64) -> Option<Status> {
        let io = self.submit(Op::Write, start, count, value);
        self.done.get(&io).copied()
    }

    pub(crate) fn read(&mut self, start: u64, count: u64) -> Vec<u64> {
        let io = self.submit(Op::Read, start, count, u64::MAX);
        assert_eq!(self.done.get(&io), Some(&Status::Success), "{:?}", self.log);
        self.buffers[&io].clone()
    }

    pub(crate) fn buffer(&self, io: u32) -> &[u64] {
        &self.buffers[&io]
    }

    pub(crate) fn flush(&mut self) -> Option<Status> {
        let io = self.submit(Op::Flush, 0, 0, 0);
        self.done.get(&io).copied()
    }

    /// Lets time pass. Devices that can be opened are.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + 1000 * ms;
        while self.now < end {
            let next = self.mirror.next_deadline().unwrap_or(end);
            self.now = next.clamp(self.now + 1, (self.now + 250_000).min(end));
            self.input(Input::Tick);
            self.run();
            self.open_all();
        }
    }

    /// Adds the member whose disk has this number.
    pub(crate) fn add(&mut self, device: u8, force: bool) {
        self.start_adding(device, force);
        self.run();
    }

    pub(crate) fn start_adding(&mut self, device: u8, force: bool) {
        self.changed = None;
        let (device, name) = (Device(device), format!("m{device}"));
        let is_open = self.is_open[device.index()];
        self.input(Input::AddMember { device, name, force, is_open });
        let device = device.0;
        if self.health[usize::from(device)] == Health::Away {
            self.health[usize::from(device)] = Health::Good;
        }
        self.members = self.members.max(usize::from(device) + 1);
        self.open_due();
    }

    /// Adds a witness.
    pub(crate) fn add_witness(&mut self, force: bool) {
        self.start_adding_witness(force);
        self.run();
    }

    pub(crate) fn start_adding_witness(&mut self, force: bool) {
        self.changed = None;
        let at = Device::WITNESS.index();
        self.input(Input::AddWitness { name: "w".to_owned(), force, is_open: self.is_open[at] });
        if self.health[at] == Health::Away {
            self.health[at] = Health::Good;
        }
        self.has_witness = true;
        self.open_due();
    }

    pub(crate) fn start_removing_witness(&mut self) {
        self.changed = None;
        self.input(Input::RemoveWitness);
    }

    /// Removes the member at this place of the configuration.
    pub(crate) fn remove_member(&mut self, who: usize) {
        self.start_removal(who);
        self.run();
    }

    pub(crate) fn start_removal(&mut self, who: usize) {
        self.changed = None;
        let id = self.mirror.report().members[who].id;
        self.input(Input::RemoveMember { id });
    }

    pub(crate) fn conditions(&self) -> Vec<Condition> {
        self.mirror.report().members.into_iter().map(|member| member.condition).collect()
    }

    pub(crate) fn state(&self) -> State {
        self.mirror.report().state
    }

    /// Carries out what the mirror wants until nothing is left that does not hang.
    pub(crate) fn run(&mut self) {
        while let Some(output) = self.mirror.poll_output() {
            self.perform(output);
        }
    }

    /// Carries out one thing that the mirror wants, unless it hangs.
    pub(crate) fn perform(&mut self, output: Output) {
        match output {
            Output::Complete { io, status } => {
                assert_eq!(self.done.insert(io.0, status), None, "{io:?} is completed twice");
            }
            Output::WantTurn { bytes } => self.wanted.push(bytes),
            Output::Close { device } => self.is_open[device.index()] = false,
            Output::Reset { request, device } => {
                self.fail_held(device);
                self.input(Input::Done { request, device, outcome: Outcome::Success });
            }
            Output::Write { devices, .. } | Output::WriteZeroes { devices, .. } => {
                self.sent.push(output.clone());
                for device in devices.iter() {
                    self.request(device, output.clone());
                }
            }
            Output::Read { device, .. }
            | Output::Flush { device, .. }
            | Output::CopyRead { device, .. }
            | Output::CompareRead { device, .. }
            | Output::CopyWrite { device, .. } => {
                self.sent.push(output.clone());
                self.request(device, output);
            }
            Output::MetadataRead { device, .. } => self.request(device, output),
            Output::Rare(rare) => match *rare {
                Rare::MetadataWrite { device, .. } => self.request(device, Output::Rare(rare)),
                Rare::Register { .. } => self.registered += 1,
                Rare::Ended { why } => self.ended = Some(why),
                Rare::Stopped { wiped } => {
                    self.is_stopped = true;
                    self.wiped = wiped;
                }
                Rare::Changed { result } => self.changed = Some(result),
                Rare::Log { text, .. } => self.log.push(text),
            },
        }
    }

    fn request(&mut self, device: Device, output: Output) {
        let is_metadata = metadata_write(&output).is_some();
        match self.health[device.index()] {
            Health::Hung => self.held.push_back((device, output)),
            Health::FlushHung if matches!(output, Output::Flush { .. }) => {
                self.held.push_back((device, output))
            }
            Health::WritesHung if matches!(output, Output::Write { .. }) => {
                self.held.push_back((device, output))
            }
            Health::CopiesHung if matches!(output, Output::CopyWrite { .. }) => {
                self.held.push_back((device, output))
            }
            Health::MetadataHung if is_metadata => self.held.push_back((device, output)),
            Health::Failing | Health::Away => self.answer(device, &output, Outcome::Failed),
            Health::Unreadable(bad) => match output {
                Output::Read { range, .. }
                | Output::CopyRead { range, .. }
                | Output::CompareRead { range, .. }
                    if range.overlaps(bad) =>
                {
                    self.answer(device, &output, Outcome::Failed);
                }
                _ => self.carry_out(device, output),
            },
            Health::Good
            | Health::MetadataHung
            | Health::FlushHung
            | Health::WritesHung
            | Health::CopiesHung => self.carry_out(device, output),
        }
    }

    fn answer(&mut self, device: Device, output: &Output, outcome: Outcome) {
        let request = match *output {
            Output::Read { request, .. }
            | Output::Write { request, .. }
            | Output::WriteZeroes { request, .. }
            | Output::Flush { request, .. }
            | Output::CopyRead { request, .. }
            | Output::CompareRead { request, .. }
            | Output::CopyWrite { request, .. }
            | Output::MetadataRead { request, .. }
            | Output::Reset { request, .. } => request,
            Output::Rare(ref rare) => match **rare {
                Rare::MetadataWrite { request, .. } => request,
                _ => unreachable!("no request"),
            },
            _ => unreachable!("no request"),
        };
        self.input(Input::Done { request, device, outcome });
    }

    fn carry_out(&mut self, device: Device, output: Output) {
        let disk = &mut self.disks[device.index()];
        match &output {
            Output::Read { io, range, .. } => drop(self.buffers.insert(io.0, disk.get(*range))),
            Output::Write { io, range, .. } => disk.fill(*range, &self.buffers[&io.0]),
            Output::WriteZeroes { range, .. } => disk.fill(*range, &vec![0; range.count as usize]),
            Output::CopyRead { slot, range, .. } => drop(self.slots.insert(slot.0, disk.get(*range))),
            Output::CompareRead { request, slot, with, range, .. } => {
                self.slots.insert(slot.0, disk.get(*range));
                let bytes = |slot: &u16| -> Vec<u8> {
                    self.slots[slot].iter().flat_map(|value| value.to_le_bytes()).collect()
                };
                let differing = differences(&bytes(&with.0), &bytes(&slot.0), range.start, 8);
                return self.input(Input::Compared { request: *request, differing });
            }
            Output::CopyWrite { slot, range, .. } => disk.fill(*range, &self.slots[&slot.0]),
            Output::Rare(rare) => {
                if let Rare::MetadataWrite { range, bytes, .. } = &**rare {
                    disk.write_metadata(*range, bytes);
                }
            }
            Output::MetadataRead { request, range, .. } => {
                let bytes = disk.read_metadata(*range);
                return self.input(Input::MetadataRead { request: *request, bytes });
            }
            _ => {}
        }
        self.answer(device, &output, Outcome::Success);
    }
}

/// Returns the device and the content of a write of metadata.
pub(crate) fn metadata_write(output: &Output) -> Option<(Device, &[u8])> {
    match output {
        Output::Rare(rare) => match &**rare {
            Rare::MetadataWrite { device, bytes, .. } => Some((*device, bytes)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the device and the content of a write of a superblock.
pub(crate) fn superblock_write(output: &Output) -> Option<(Device, &[u8])> {
    metadata_write(output).filter(|(_, bytes)| bytes.starts_with(b"DSTmirr"))
}
