//! Creation: devices that hold nothing become the members of a new mirror.

use crate::call::Create;
use crate::changes::probed;
use crate::configuration::{
    Configuration, MEMBER_NAME_MAX, MEMBERS_MAX, MemberRecord, MemberState, WitnessRecord, WitnessState,
};
use crate::extents::Extent;
use crate::founding::Founding;
use crate::generation::{Generation, Generations};
use crate::handles::Device;
use crate::ids::{MemberId, MirrorId};
use crate::joining::ASSEMBLY_SHIFT;
use crate::metadata::{Area, Layout};
use crate::regions::RegionSize;
use crate::running::{Authority, Missed, Running, WITNESS};
use crate::shared::{Link, Shared};

/// What is known of the beginning of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    NotRead,
    Reading,
    Zeroes,
}

/// A mirror that waits for its devices to be created.
pub(crate) struct Creating {
    call: Create,
    probes: Vec<Probe>,
    /// What it waits for.
    pub(crate) why: String,
}

impl Creating {
    pub(crate) fn new(call: Create) -> Creating {
        let probes = vec![Probe::NotRead; call.members.len()];
        Creating { call, probes, why: String::new() }
    }

    /// Returns the devices of the call.
    fn devices(&self) -> impl Iterator<Item = Device> + use<> {
        let witness = self.call.witness.as_ref().map(|_| Device::WITNESS);
        (0..self.call.members.len() as u8).map(Device).chain(witness)
    }

    /// The beginning of a device was read.
    ///
    /// # Errors
    /// Why the mirror is not created.
    pub(crate) fn supply(&mut self, device: Device, bytes: &[u8]) -> Result<(), String> {
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(format!("{device} holds data: clear it, or create the mirror with force"));
        }
        if let Some(probe) = self.probes.get_mut(device.index()) {
            *probe = Probe::Zeroes;
        }
        Ok(())
    }

    /// Creates the mirror if all devices are there.
    ///
    /// # Errors
    /// Why the mirror is not created.
    pub(crate) fn try_create(&mut self, s: &mut Shared) -> Result<Option<Running>, String> {
        if self.call.members.is_empty() || self.call.members.len() > MEMBERS_MAX {
            return Err(format!("{} members, not 1 to {MEMBERS_MAX}", self.call.members.len()));
        }
        for name in self.call.members.iter().chain(&self.call.witness) {
            if name.len() > MEMBER_NAME_MAX {
                return Err(format!("the name {name} has more than {MEMBER_NAME_MAX} bytes"));
            }
        }
        for device in self.devices() {
            match &s.slot(device).link {
                Link::Known(Ok(loaded)) if !self.call.force => {
                    let mirror = loaded.record.mirror;
                    return Err(format!(
                        "{device} belongs to the mirror {mirror}: assemble that, or create this one with force"
                    ));
                }
                Link::Known(_) => {}
                Link::Unusable(why) => return Err(format!("{device} can't be used: {why}")),
                Link::Closing => return Err(format!("{device} can't be read")),
                Link::Absent | Link::Waiting(_) | Link::Loading(_) | Link::InUse => {
                    self.why = format!("{device} is not there yet");
                    return Ok(None);
                }
            }
        }
        if !self.call.force && !self.are_zeroes(s) {
            return Ok(None);
        }
        self.create(s).map(Some)
    }

    /// Reads the beginnings of the members. Returns whether all are zeroes.
    fn are_zeroes(&mut self, s: &mut Shared) -> bool {
        for (index, probe) in self.probes.iter_mut().enumerate() {
            if *probe == Probe::NotRead {
                let device = Device(index as u8);
                let slot = s.slot(device);
                let range = probed(slot.blocks, slot.block_size);
                s.requests.metadata_read(device, range);
                *probe = Probe::Reading;
            }
        }
        self.probes.iter().all(|&probe| probe == Probe::Zeroes)
    }

    fn create(&self, s: &mut Shared) -> Result<Running, String> {
        let block_size = s.slot(Device(0)).block_size;
        let mut blocks = u64::MAX;
        let mut areas = Vec::new();
        for device in self.devices() {
            let slot = s.slot(device);
            let (device_blocks, device_block_size) = (slot.blocks, slot.block_size);
            let layout = match device {
                Device::WITNESS => Layout::witness(device_blocks, device_block_size),
                _ => Layout::member(device_blocks, device_block_size),
            };
            let layout = layout.map_err(|error| format!("{device} can't be used: {error}"))?;
            if device != Device::WITNESS {
                if device_block_size != block_size {
                    return Err(format!(
                        "{device} has blocks of {device_block_size} bytes, and the first member of {block_size}"
                    ));
                }
                blocks = blocks.min(layout.data_blocks());
            }
            let id = MemberId(s.identifier());
            areas.push((device, id, device_blocks, Area::fresh(layout, id)));
        }
        let since = Generation(s.identifier());
        let member = |(index, name): (usize, &String)| MemberRecord {
            id: areas[index].1,
            name: name.clone(),
            device_blocks: areas[index].2,
            state: match index {
                0 => MemberState::InSync,
                _ if self.call.is_equal => MemberState::InSync,
                _ => MemberState::Resyncing { since },
            },
        };
        let members: Vec<MemberRecord> = self.call.members.iter().enumerate().map(member).collect();
        let witness = self.call.witness.as_ref().and_then(|name| {
            let (_, id, device_blocks, _) = areas.last()?;
            Some(WitnessRecord {
                id: *id,
                name: name.clone(),
                device_blocks: *device_blocks,
                state: WitnessState::Current,
            })
        });
        let mut missed: Vec<Missed> = members.iter().map(|_| Missed::new(s.options.tree_max())).collect();
        for (member, missed) in members.iter().zip(&mut missed) {
            if member.state != MemberState::InSync {
                missed.insert(Extent::new(0, blocks));
            }
        }
        let region_size = match s.options.region_shift {
            Some(shift) => RegionSize::from_shift(shift, blocks)
                .ok_or_else(|| format!("regions of 2^{shift} blocks are too small for {blocks} blocks"))?,
            None => RegionSize::for_device(blocks, block_size),
        };
        let generations = Generations::new(Generation(s.identifier()));
        let number = 1 << ASSEMBLY_SHIFT;
        let config = Configuration { number, accepted: number, generations, members, witness };
        let founding = Founding {
            mirror: MirrorId(s.identifier()),
            blocks,
            block_size,
            region_size,
            recorded: config.clone(),
            config,
            authority: Authority::All,
            overwritten: 0,
            hot: Vec::new(),
            missed,
        };
        let mut running = founding.found(s);
        for (device, _, _, area) in areas {
            let who = if device == Device::WITNESS { WITNESS } else { device.index() };
            let is_active = who != WITNESS && running.is_in_sync(who);
            running.plug(s, who, device, area, is_active);
        }
        Ok(running)
    }
}
