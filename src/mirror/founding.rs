//! From devices that were read to a mirror that runs.

use std::collections::VecDeque;

use crate::change::Change;
use crate::configuration::{Configuration, MEMBERS_MAX};
use crate::copying::Copying;
use crate::extents::Extent;
use crate::handles::Device;
use crate::ids::MirrorId;
use crate::input::Op;
use crate::locks::Locks;
use crate::metadata::Area;
use crate::regions::{RegionSize, Regions};
use crate::report::Counts;
use crate::roles::{KnownRoles, Watched};
use crate::running::{
    Authority, Beginning, Io, IoState, Leftovers, Missed, Mode, Places, Port, Running, Up, WITNESS, in_sync,
};
use crate::shared::Shared;
use crate::verifying::Verifying;

/// What a mirror begins with.
pub(crate) struct Founding {
    pub(crate) mirror: MirrorId,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    pub(crate) region_size: RegionSize,
    /// The configuration that was found, or that of a new mirror.
    pub(crate) recorded: Configuration,
    /// The configuration as it is to be.
    pub(crate) config: Configuration,
    pub(crate) authority: Authority,
    pub(crate) overwritten: Places,
    /// The hot regions that were found.
    pub(crate) hot: Vec<u16>,
    /// What each member missed.
    pub(crate) missed: Vec<Missed>,
}

impl Founding {
    /// Returns a mirror without devices, which writes its first record when it has some.
    pub(crate) fn found(self, s: &Shared) -> Running {
        let ios = s.options.ios_max as usize;
        let free = Io { op: Op::Flush, range: Extent::new(0, 0), state: IoState::Free };
        let down = || Port::Down { why: "it was not there yet".to_owned(), since: s.now() };
        let slot_blocks = (u64::from(s.options.copy_bytes) / u64::from(self.block_size)).max(1);
        let queue = || VecDeque::with_capacity(ios);
        // A verification has one, too.
        let holders = ios + usize::from(s.options.copy_slots) + 1;
        Running {
            mirror: self.mirror,
            blocks: self.blocks,
            block_size: self.block_size,
            claimed: in_sync(&self.recorded) | unsettled(&self.recorded),
            beginning: match self.authority {
                Authority::Majority => Beginning::Announcing,
                // Nothing that was found outranks what the operator has said.
                Authority::Operator => Beginning::Adopting,
                Authority::All => Beginning::Over,
            },
            config: Watched::new(self.config),
            recorded: Watched::new(self.recorded),
            is_renewal_due: false,
            authority: self.authority,
            overwritten: self.overwritten,
            ports: Watched::new((0..=WITNESS).map(|_| down()).collect()),
            known_roles: KnownRoles::new(),
            missed: self.missed,
            lost_caches: [0; MEMBERS_MAX],
            regions: Regions::new(self.region_size, self.blocks, s.options.hot_max),
            found_hot: self.hot,
            locks: Locks::new(ios, s.options.copy_slots.into(), self.block_size),
            granted: VecDeque::with_capacity(holders),
            ios: vec![free; ios],
            held: queue(),
            recording: queue(),
            settling: queue(),
            flushing: Vec::with_capacity(ios),
            flush_waiting: Vec::with_capacity(ios),
            flush: None,
            has_lost: false,
            flushes: 0,
            wants_flush: false,
            wants_cool: false,
            next_flush: 0,
            next_late: 0,
            round: None,
            leftovers: Leftovers::None,
            change: Change::None,
            wants_trees: true,
            wants_record: true,
            is_stalled: false,
            copying: Copying::new(s.options.copy_slots, slot_blocks),
            verifying: Verifying::new(),
            rotation: 0,
            mode: Mode::Serving,
            is_registered: false,
            is_stirred: true,
            counts: Counts::default(),
        }
    }
}

impl Running {
    /// Begins to use a device.
    pub(crate) fn plug(&mut self, s: &mut Shared, who: usize, device: Device, area: Area, is_active: bool) {
        s.take(device, who);
        self.ports[who] = Port::Up(Box::new(Up { device, area, is_stale: true, is_active }));
        self.is_stirred = true;
    }
}

/// Returns the members that are out of date at the current generation: somebody began to go on without
/// them, and nobody knows whether that counted.
fn unsettled(config: &Configuration) -> Places {
    let current = Some(config.generations.current());
    let members = config.members.iter().enumerate();
    members.filter(|(_, member)| member.state.since() == current).fold(0, |set, (who, _)| set | 1 << who)
}
