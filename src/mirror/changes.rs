//! Members that are added and removed while the mirror runs.
//!
//! One member at a time: a majority of the voters before and one of those after then have a voter in
//! common, so the configurations before and after are never assembled by two hosts. What is recorded is
//! on both majorities before it counts, and no record changes another vote (that of the witness) as well.
//!
//! A member that is removed is out of date first, as one that has vanished: that is recorded, and the
//! others have begun a new generation, before a record calls it detached. So the members in sync are the
//! same before and after that record, and a host that finds it on a minority goes on from no fewer of them.
//! Until it counts, what the member misses is kept in its tree, since a host that does not find the
//! record has the member back.
//!
//! A member that is added misses everything. Until the record with it counts, the record before it has
//! its place, too, with a member that is detached: that has no vote. If the new member is lost until then,
//! the addition is withdrawn: a record that says again what the one before said has to count. It needs a
//! majority of the voters before only, which may be there without the new one and the witness. A host
//! that goes on from the record with the new member needs a majority of those after, which has a voter in common
//! with that majority, and so it finds the newer record.

use crate::change::{Candidate, Change, WitnessChange};
use crate::configuration::{Configuration, MEMBER_NAME_MAX, MEMBERS_MAX, MemberRecord, MemberState};
use crate::extents::Extent;
use crate::generation::{Generation, Relation};
use crate::handles::Device;
use crate::ids::MemberId;
use crate::metadata::{Area, Layout, Loaded, MetadataError};
use crate::mutation::{Mutation, is_on};
use crate::output::Rare;
use crate::quorum::{knows, may_record};
use crate::running::{Beginning, Leftovers, Missed, Mode, Port, Running, WITNESS, says_the_same};
use crate::shared::{Link, Shared};

/// The number of bytes at the beginning of a device that must be zero, unless the operator insists:
/// partition tables and the superblocks of most file systems and of lvol begin there.
const PROBED: u64 = 64 * 1024;

/// Returns the size of the table of requests that so many members need.
pub(crate) fn requests_max(ios_max: u32, copy_slots: u16, members: usize) -> u32 {
    // A write is at all members at once. A device has the trees of all members, or a step of a
    // record, flush or load, and a reset at once; a slot is at one device.
    let of_devices = Device::COUNT * (MEMBERS_MAX + 8);
    (ios_max as usize * members.clamp(1, MEMBERS_MAX) + usize::from(copy_slots) + of_devices) as u32
}

/// Returns the blocks at the beginning of a device that are read before it is taken.
pub(crate) fn probed(blocks: u64, block_size: u32) -> Extent {
    Extent::new(0, (PROBED / u64::from(block_size)).clamp(1, blocks))
}

/// Returns whether two configurations differ in which members have a vote.
pub(crate) fn changes_members(one: &Configuration, other: &Configuration) -> bool {
    let vote = |member: &MemberRecord| (member.id, member.state == MemberState::Detached);
    !one.members.iter().map(vote).eq(other.members.iter().map(vote))
}

impl Running {
    /// Begins to add a member: a device that is about to be opened, or is open and not used.
    /// [`Rare::Changed`] answers.
    pub(crate) fn add_member(
        &mut self,
        s: &mut Shared,
        device: Device,
        (name, force): (String, bool),
        is_open: bool,
    ) {
        if let Err(why) = self.may_add(s, device, &name, is_open) {
            return s.requests.push(Rare::Changed { result: Err(why) });
        }
        let members = self.config.members.iter().filter(|m| m.state != MemberState::Detached).count() + 1;
        s.requests.grow(requests_max(s.options.ios_max, s.options.copy_slots, members));
        self.begin_examining(s, Candidate { device, name, force, is_probed: false }, is_open);
    }

    /// Begins to look at a device that is about to be opened, or is open and not used.
    pub(crate) fn begin_examining(&mut self, s: &mut Shared, candidate: Candidate, is_open: bool) {
        let device = candidate.device;
        self.change = Change::Examining(candidate);
        let now = s.now();
        let slot = s.slot(device);
        // A former member has as long to answer as any new one, and not as long as one that leaves.
        slot.who = None;
        if is_open {
            // It was refused, as a member that was removed, for instance.
            slot.link = Link::Waiting(now);
            s.read_due(device);
            self.examine(s);
        }
    }

    fn may_add(&self, s: &Shared, device: Device, name: &str, is_open: bool) -> Result<(), String> {
        self.may_begin_change()?;
        if device == Device::WITNESS {
            return Err(format!("{device} is no member"));
        }
        self.may_examine(s, device, name, is_open)?;
        self.free_place(s)?;
        let mut with = self.recorded.clone();
        let id = MemberId(0);
        let state = MemberState::Resyncing { since: self.recorded.generations.current() };
        with.members.push(MemberRecord { id, name: String::new(), device_blocks: 1, state });
        self.can_count(&with, Some(id))
    }

    /// Returns whether a device may be looked at, to be used from then on.
    pub(crate) fn may_examine(
        &self,
        s: &Shared,
        device: Device,
        name: &str,
        is_open: bool,
    ) -> Result<(), String> {
        let is_unused = match s.slots[device.index()].link {
            Link::Absent | Link::Closing => !is_open,
            Link::Unusable(_) => is_open,
            Link::Waiting(_) | Link::Loading(_) | Link::Known(_) | Link::InUse => false,
        };
        if !is_unused {
            return Err(format!("{device} is in use"));
        }
        if name.len() > MEMBER_NAME_MAX {
            return Err(format!("the name {name} has more than {MEMBER_NAME_MAX} bytes"));
        }
        Ok(())
    }

    /// Begins to remove a member. [`Rare::Changed`] answers.
    pub(crate) fn remove_member(&mut self, s: &mut Shared, id: MemberId) {
        let who = self.config.members.iter().position(|member| member.id == id);
        let result = match who {
            Some(who) => self.may_remove(who).map(|()| who),
            None => Err(format!("the mirror has no member with the id {id}")),
        };
        match result {
            Ok(who) => self.begin_removal(s, who),
            Err(why) => s.requests.push(Rare::Changed { result: Err(why) }),
        }
    }

    fn may_remove(&self, who: usize) -> Result<(), String> {
        self.may_begin_change()?;
        if self.config.members[who].state == MemberState::Detached {
            return Err(format!("{} was removed before", self.name(who)));
        }
        if self.sources() & !(1 << who) == 0 {
            return Err(format!(
                "{} can't be removed: no other member that is in sync is there",
                self.name(who)
            ));
        }
        let mut without = self.recorded.clone();
        without.members[who].state = MemberState::Detached;
        self.can_count(&without, None)
    }

    pub(crate) fn may_begin_change(&self) -> Result<(), String> {
        if self.mode != Mode::Serving || !self.is_registered {
            return Err("the mirror does not run".to_owned());
        }
        match self.change {
            Change::None => Ok(()),
            _ => Err("another change of its devices is going on: try again when that is answered".to_owned()),
        }
    }

    /// Returns whether the devices that are there, and one that is new, may record another configuration.
    pub(crate) fn can_count(&self, next: &Configuration, new: Option<MemberId>) -> Result<(), String> {
        let is_there = |id: MemberId| self.place(id).is_some_and(|who| self.up(who).is_some());
        let is_there_then = |id: MemberId| new == Some(id) || is_there(id);
        if may_record(&self.recorded, is_there) && may_record(next, is_there_then) {
            return Ok(());
        }
        Err("no majority of the members and the witness is there, or would be there afterwards: bring others \
             back first"
            .to_owned())
    }

    /// Returns a place for a new member: that of one that was removed, or the next one.
    fn free_place(&self, s: &Shared) -> Result<usize, String> {
        // What a device at this place was asked for has ended.
        let is_unused = |who: usize| {
            let mut of_place = Device::all().filter(|device| s.slots[device.index()].who == Some(who));
            self.up(who).is_none() && of_place.all(|device| s.requests.in_flight(device) == 0)
        };
        let is_detached = |who: usize| {
            let state = |config: &Configuration| config.members.get(who).map(|member| member.state);
            state(&self.config) == Some(MemberState::Detached)
                && state(&self.recorded) == Some(MemberState::Detached)
        };
        if let Some(who) = self.members().find(|&who| is_detached(who) && is_unused(who)) {
            return Ok(who);
        }
        match self.config.members.len() {
            MEMBERS_MAX if self.members().any(is_detached) => {
                Err("the device of a member that was removed still has requests: try again later".to_owned())
            }
            MEMBERS_MAX => {
                Err(format!("the mirror has {MEMBERS_MAX} members, which is the most there can be"))
            }
            next => Ok(next),
        }
    }

    /// Returns whether a member or the witness is being added or removed.
    pub(crate) fn is_changing(&self) -> bool {
        !matches!(self.change, Change::None)
    }

    /// Returns whether a device is about to become a member or the witness.
    pub(crate) fn is_candidate(&self, device: Device) -> bool {
        match &self.change {
            Change::Examining(candidate) => candidate.device == device,
            Change::Joining { device: joining, .. } => *joining == device,
            Change::Witness(WitnessChange::Joining { .. }) => device == Device::WITNESS,
            Change::None
            | Change::Joined(_)
            | Change::Withdrawn(_)
            | Change::Leaving(_)
            | Change::Detached(_)
            | Change::Witness(_) => false,
        }
    }

    /// Returns whether a device is known to be no member's, and not the witness: it was removed, or holds
    /// nothing of the mirror.
    pub(crate) fn is_outsider(&self, s: &Shared, device: Device) -> bool {
        let slot = &s.slots[device.index()];
        let state = |config: &Configuration, who: usize| config.members.get(who).map(|member| member.state);
        let is_detached = |who: usize| {
            let states = [state(&self.config, who), state(&self.recorded, who)];
            states.iter().all(|state| *state == Some(MemberState::Detached))
        };
        match slot.who {
            Some(WITNESS) => self.config.witness.is_none() && self.recorded.witness.is_none(),
            Some(who) => is_detached(who),
            None => matches!(slot.link, Link::Unusable(_)),
        }
    }

    /// Returns whether a member is about to be removed.
    pub(crate) fn is_leaving(&self, who: usize) -> bool {
        matches!(self.change, Change::Leaving(leaving) | Change::Detached(leaving) if leaving == who)
    }

    /// Returns whether what a member misses is kept: some record may call it a member out of date.
    #[inline]
    pub(crate) fn keeps_tree(&self, who: usize) -> bool {
        match self.config.members[who].state {
            MemberState::OutOfDate { .. } | MemberState::Resyncing { .. } => true,
            MemberState::InSync => false,
            MemberState::Detached => self.recorded.members[who].state != MemberState::Detached,
        }
    }

    /// Answers a change that has not become part of the configuration, or may not count any more.
    pub(crate) fn fail_change(&mut self, s: &mut Shared, why: &str) {
        let change = std::mem::replace(&mut self.change, Change::None);
        let why = match change {
            Change::None => return,
            Change::Examining(Candidate { device, .. }) | Change::Joining { device, .. } => {
                s.part(device);
                why.to_owned()
            }
            Change::Witness(WitnessChange::Joining { .. }) => {
                s.part(Device::WITNESS);
                why.to_owned()
            }
            Change::Joined(_)
            | Change::Withdrawn(_)
            | Change::Leaving(_)
            | Change::Detached(_)
            | Change::Witness(_) => {
                format!("{why}; whether that was recorded, the mirror shows when it is assembled again")
            }
        };
        s.requests.push(Rare::Changed { result: Err(why) });
    }

    pub(crate) fn change_is_recorded(&mut self, s: &mut Shared, result: Result<(), String>) {
        self.change = Change::None;
        s.requests.push(Rare::Changed { result });
    }

    /// Looks at the device that is to become a member or the witness, if it was read.
    pub(crate) fn examine(&mut self, s: &mut Shared) {
        let Change::Examining(candidate) = &mut self.change else { return };
        let device = candidate.device;
        let result = match &s.slots[device.index()].link {
            Link::Absent | Link::Waiting(_) | Link::Loading(_) | Link::InUse => return,
            Link::Unusable(why) => Err(format!("{} can't be used: {why}", candidate.name)),
            Link::Closing => Err(format!("{} can't be read", candidate.name)),
            Link::Known(_) if candidate.is_probed => return,
            Link::Known(Ok(loaded)) => self.may_take(loaded),
            // These are not a mirror's, or were overwritten since.
            Link::Known(Err(
                MetadataError::Nothing | MetadataError::Crc { .. } | MetadataError::Place { .. },
            )) => Ok(true),
            Link::Known(Err(_)) if candidate.force => Ok(false),
            Link::Known(Err(error)) => {
                Err(format!("{}: {error}: add it with force if that may be overwritten", candidate.name))
            }
        };
        self.examined(s, result);
    }

    /// Returns whether the beginning of a device that has metadata is to be empty.
    ///
    /// # Errors
    /// Why it is not taken.
    fn may_take(&self, loaded: &Loaded) -> Result<bool, String> {
        let Change::Examining(Candidate { name, force, .. }) = &self.change else { return Ok(true) };
        let (mirror, own) = (loaded.record.mirror, &loaded.record.configuration);
        if mirror == self.mirror {
            let member = self.config.member(loaded.own).filter(|m| m.state != MemberState::Detached);
            if let Some(member) = member {
                return Err(format!(
                    "{name} holds the data of the member {}, which was not removed",
                    member.name
                ));
            }
            let is_older = match own.generations.relation(&self.config.generations) {
                Relation::Same | Relation::Behind => true,
                Relation::Ahead => false,
                Relation::Diverged => knows(&self.config, own),
            };
            if !is_older && !force {
                return Err(format!(
                    "{name} was removed from this mirror and written without it, or it was removed too long ago to \
                     tell: add it with force if what it holds may be lost"
                ));
            }
            return Ok(false);
        }
        if *force {
            return Ok(false);
        }
        Err(format!("{name} belongs to the mirror {mirror}: add it with force if that may be overwritten"))
    }

    /// Goes on with a device whose metadata were read.
    fn examined(&mut self, s: &mut Shared, result: Result<bool, String>) {
        let Change::Examining(candidate) = &mut self.change else { return };
        match result {
            Ok(true) if !candidate.force => {
                candidate.is_probed = true;
                let device = candidate.device;
                let (blocks, block_size) = (s.slot(device).blocks, s.slot(device).block_size);
                s.requests.metadata_read(device, probed(blocks, block_size));
            }
            Ok(_) => self.take_candidate(s),
            Err(why) => self.fail_change(s, &why),
        }
    }

    /// The beginning of a device was read that is to become a member or the witness.
    pub(crate) fn supply_probe(&mut self, s: &mut Shared, device: Device, bytes: &[u8]) {
        let Change::Examining(candidate) = &self.change else { return };
        if candidate.device != device || !candidate.is_probed {
            return;
        }
        if bytes.iter().any(|&byte| byte != 0) {
            let why = format!("{} holds data: clear it, or add it with force", candidate.name);
            self.fail_change(s, &why);
        } else {
            self.take_candidate(s);
        }
    }

    /// Has a device become a member or the witness, if it is large enough.
    fn take_candidate(&mut self, s: &mut Shared) {
        let Change::Examining(candidate) = &self.change else { return };
        let (device, name) = (candidate.device, candidate.name.clone());
        if device == Device::WITNESS {
            return self.take_witness(s, name);
        }
        let (device_blocks, block_size) = (s.slot(device).blocks, s.slot(device).block_size);
        let layout = match Layout::member(device_blocks, block_size) {
            Ok(_) if block_size != self.block_size => {
                Err(format!("{name} has blocks of {block_size} bytes, and the mirror of {}", self.block_size))
            }
            Ok(layout) if layout.data_blocks() < self.blocks => Err(format!(
                "{name} has room for {} blocks beside the metadata, and the mirror has {}",
                layout.data_blocks(),
                self.blocks
            )),
            Ok(layout) => Ok(layout),
            Err(error) => Err(format!("{name} can't be used: {error}")),
        };
        match layout {
            Ok(layout) => {
                let id = MemberId(s.identifier());
                let state = MemberState::Resyncing { since: Generation(s.identifier()) };
                let record = MemberRecord { id, name, device_blocks, state };
                s.slot(device).link = Link::InUse;
                self.change = Change::Joining { device, record, area: Box::new(Area::fresh(layout, id)) };
                self.is_stirred = true;
            }
            Err(why) => self.fail_change(s, &why),
        }
    }

    fn begin_removal(&mut self, s: &mut Shared, who: usize) {
        s.requests.notice(format!("{} is being removed", self.name(who)));
        self.call_off(who);
        let is_in_sync = self.is_in_sync(who);
        if is_in_sync && !is_on(Mutation::DetachAtOnce) {
            self.miss(who);
        } else if let Some(since) = self.config.members[who].state.since() {
            self.config.members[who].state = MemberState::OutOfDate { since };
        }
        if let Some(up) = self.up_mut(who) {
            up.is_active = false;
        }
        self.leave_flush(s, who);
        self.change = Change::Leaving(who);
        // The member has less time for its requests from now on.
        self.next_late = 0;
        self.is_stirred = true;
    }

    /// Returns whether the members and the witness may change now: all that was tried to be recorded is,
    /// and counts.
    pub(crate) fn is_quiet(&self) -> bool {
        self.round.is_none()
            && self.is_settled()
            && self.beginning == Beginning::Over
            && self.leftovers == Leftovers::None
            && says_the_same(&self.config, &self.recorded)
    }

    /// Takes the next step of a change.
    pub(crate) fn continue_change(&mut self, s: &mut Shared) {
        let is_detached =
            |running: &Running, who: usize| running.recorded.members[who].state == MemberState::Detached;
        self.continue_witness(s);
        match self.change {
            Change::Joining { .. } if self.is_quiet() => self.join_new(s),
            Change::Leaving(who)
                if self.is_quiet() || is_on(Mutation::DetachAtOnce) && self.round.is_none() =>
            {
                self.config.members[who].state = MemberState::Detached;
                self.change = Change::Detached(who);
            }
            Change::Joined(who) if !is_detached(self, who) => {
                let result = match self.up(who).is_some() {
                    true => Ok(()),
                    false => Err(format!(
                        "{} is a member now, and was lost at once: bring it back, or remove it",
                        self.name(who)
                    )),
                };
                self.change_is_recorded(s, result);
            }
            Change::Joined(who) if self.round.is_none() && self.up(who).is_none() => {
                self.config.members[who].state = MemberState::Detached;
                self.change = Change::Withdrawn(who);
                self.is_stirred = true;
            }
            Change::Withdrawn(who) if self.round.is_none() && self.leftovers == Leftovers::None => {
                let why = format!("{} was lost before it was a member: add it again", self.name(who));
                self.drop_member(s, who);
                self.change_is_recorded(s, Err(why));
            }
            Change::Detached(who) if is_detached(self, who) => {
                s.requests.notice(format!("{} is removed", self.name(who)));
                self.drop_member(s, who);
                self.change_is_recorded(s, Ok(()));
            }
            _ => {}
        }
    }

    /// Gives the new member its place in the configuration.
    fn join_new(&mut self, s: &mut Shared) {
        let who = match self.free_place(s) {
            Ok(who) => who,
            Err(why) => return self.fail_change(s, &why),
        };
        let Change::Joining { device, record, area } =
            std::mem::replace(&mut self.change, Change::Joined(who))
        else {
            unreachable!("the caller has just seen it")
        };
        for slot in s.slots.iter_mut().filter(|slot| slot.who == Some(who)) {
            slot.who = None;
        }
        let mut missed = Missed::new(s.options.tree_max());
        if !is_on(Mutation::NoFullCopy) {
            missed.insert(Extent::new(0, self.blocks));
        }
        // No record has this version yet.
        missed.version = self.missed.get(who).map_or(0, |before| before.version) + 1;
        let placeholder = MemberRecord { state: MemberState::Detached, ..record.clone() };
        if who == self.config.members.len() {
            self.config.members.push(record);
            self.recorded.members.push(placeholder);
            self.missed.push(missed);
        } else {
            missed.durable = self.missed[who].durable;
            self.config.members[who] = record;
            self.recorded.members[who] = placeholder;
            self.missed[who] = missed;
        }
        self.overwritten &= !(1 << who);
        self.wants_trees = true;
        self.plug(s, who, device, *area, false);
    }

    /// Gives up the device and the tree of a member that was removed.
    fn drop_member(&mut self, s: &mut Shared, who: usize) {
        self.missed[who].clear();
        (self.wants_trees, self.wants_record, self.is_stirred) = (true, true, true);
        self.drop_device(s, who);
    }

    /// Gives up the device of a member or witness that was removed.
    pub(crate) fn drop_device(&mut self, s: &mut Shared, who: usize) {
        let device = self.up(who).map(|up| up.device);
        self.ports[who] = Port::Down { why: "it was removed".to_owned(), since: s.now() };
        // Also one that is there and not used.
        let shown = Device::all().filter(|device| s.slots[device.index()].who == Some(who));
        let devices: Vec<Device> = device.into_iter().chain(shown.filter(|of| Some(*of) != device)).collect();
        for device in devices {
            s.part(device);
        }
    }
}
