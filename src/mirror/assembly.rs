//! Assembly: from the metadata on the devices that are there to a mirror that may go on from them.

use std::collections::BTreeSet;

use crate::call::Assemble;
use crate::configuration::{Configuration, MemberState, Standing, WitnessState};
use crate::extents::Extent;
use crate::founding::Founding;
use crate::generation::{Generation, Generations};
use crate::handles::Device;
use crate::ids::MemberId;
use crate::joining::{ASSEMBLY_SHIFT, epoch};
use crate::metadata::Loaded;
use crate::mutation::{Mutation, is_on};
use crate::quorum::{Assembly, may_assemble, newest, rank};
use crate::regions::HOT_MAX;
use crate::running::{Authority, Missed, Places, Running, WITNESS};
use crate::shared::{Link, Shared};

/// A mirror that waits for devices to be assembled.
pub(crate) struct Assembling {
    call: Assemble,
    /// What it waits for.
    pub(crate) why: String,
    /// The time since when it could go on without those that are missing.
    since: Option<u64>,
}

/// A device that was found, and its place in the configuration.
struct Found {
    device: Device,
    who: usize,
    loaded: Box<Loaded>,
}

impl Assembling {
    pub(crate) fn new(call: Assemble) -> Assembling {
        Assembling { call, why: "no device has been read yet".to_owned(), since: None }
    }

    /// Returns when to try again although no device has changed.
    pub(crate) fn next_deadline(&self, s: &Shared) -> Option<u64> {
        self.since.map(|since| since.saturating_add(s.options.degraded_wait_ms.saturating_mul(1000)))
    }

    /// Assembles the mirror if it may.
    pub(crate) fn try_assemble(&mut self, s: &mut Shared) -> Option<Running> {
        for device in Device::all() {
            if let Link::Known(Err(error)) = &s.slot(device).link {
                let why = error.to_string();
                s.refuse(device, why);
            }
        }
        match self.choose(s) {
            Ok(Some(base)) => Some(self.assemble(s, base)),
            Ok(None) => None,
            Err(why) => {
                self.since = None;
                self.why = why;
                None
            }
        }
    }

    /// Returns whether a device holds nothing of the mirror, or was removed from it, as far as is
    /// known.
    pub(crate) fn is_outsider(&self, s: &Shared, device: Device) -> bool {
        match &s.slots[device.index()].link {
            Link::Unusable(_) => true,
            Link::Known(Ok(own)) => {
                let others = known(s).filter(|(_, other)| other.record.mirror == own.record.mirror);
                let newest = others.map(|(_, other)| &other.record.configuration).max_by_key(|c| rank(c));
                newest.is_some_and(|newest| !newest.has_device(own.own))
            }
            _ => false,
        }
    }

    /// Returns the device whose record the mirror is assembled from, or `None` if it waits for
    /// members that are missing.
    fn choose(&mut self, s: &mut Shared) -> Result<Option<Device>, String> {
        let found: Vec<(Device, &Loaded)> = known(s).collect();
        let Some(&(first, one)) = found.first() else { return Err("no device has been read yet".to_owned()) };
        for (device, other) in &found {
            if other.record.mirror != one.record.mirror {
                let (mirror, other) = (one.record.mirror, other.record.mirror);
                return Err(format!("{first} belongs to the mirror {mirror}, and {device} to {other}"));
            }
            let (mine, theirs) = (&one.record, &other.record);
            if (mine.blocks, mine.block_size, mine.region_size)
                != (theirs.blocks, theirs.block_size, theirs.region_size)
            {
                return Err(format!(
                    "the metadata of {first} and {device} tell of mirrors of different sizes"
                ));
            }
            if found.iter().any(|(d, copy)| d != device && copy.own == other.own) {
                return Err(format!("{device} is a copy of another device: name only one of them"));
            }
        }
        if let Some(forced) = self.call.force {
            return self.choose_forced(s, forced);
        }
        let configurations: Vec<(MemberId, &Configuration)> =
            found.iter().map(|(_, l)| (l.own, &l.record.configuration)).collect();
        let base = newest(&configurations).map_err(|stranger| match stranger {
            Some((a, b)) => format!(
                "{} and {} have diverged: each was written without the other. Decide whose data count, and \
                 assemble with force from that member",
                found[a].0, found[b].0
            ),
            None => "no device has been read yet".to_owned(),
        })?;
        let (base, configuration) = (found[base].0, configurations[base].1);
        let is_present = |id: MemberId| {
            found.iter().any(|(device, l)| {
                l.own == id && (*device == Device::WITNESS) == is_witness(configuration, id)
            })
        };
        let assembly = match may_assemble(configuration, is_present) {
            Ok(assembly) => assembly,
            Err(_) if is_on(Mutation::AssembleAnything) => Assembly::Degraded,
            Err(refusal) => return Err(refusal.to_string()),
        };
        let is_usable = |(_, l): &(Device, &Loaded)| is_usable(configuration, l);
        if !found.iter().any(is_usable) && !is_on(Mutation::AssembleAnything) {
            return Err(
                "the members in sync are not those that the metadata mean: they were written outside of \
                        the mirror"
                    .to_owned(),
            );
        }
        let logs = found.iter().filter(|(device, l)| *device == base || is_usable(&(*device, *l)));
        let hot: BTreeSet<u16> = logs.flat_map(|(_, l)| l.record.hot.iter().copied()).collect();
        if hot.len() > HOT_MAX {
            // No mirror writes that, and no superblock has room for it.
            return Err(format!(
                "the intent logs of its devices differ in too many regions: together {}, at most {HOT_MAX}",
                hot.len()
            ));
        }
        // A device that is not there may know better, though it is not needed.
        let is_whole = assembly == Assembly::Whole && self.are_all_known(s);
        if is_whole || self.has_waited(s) { Ok(Some(base)) } else { Ok(None) }
    }

    /// Returns whether all devices of the call were read.
    fn are_all_known(&self, s: &Shared) -> bool {
        let members = (0..self.call.members as u8).map(Device);
        let all = members.chain(self.call.has_witness.then_some(Device::WITNESS));
        let is_known =
            |device: Device| matches!(s.slots[device.index()].link, Link::Known(_) | Link::Unusable(_));
        all.into_iter().all(is_known)
    }

    /// Returns whether the mirror has waited for as long as it has to before it goes on without
    /// members.
    fn has_waited(&mut self, s: &Shared) -> bool {
        let since = *self.since.get_or_insert(s.now());
        self.why = "devices are missing, without which the mirror goes on in a moment".to_owned();
        s.now() >= since.saturating_add(s.options.degraded_wait_ms.saturating_mul(1000))
    }

    fn choose_forced(&mut self, s: &mut Shared, forced: Device) -> Result<Option<Device>, String> {
        let found = known(s).find(|(device, _)| *device == forced);
        let (_, loaded) =
            found.ok_or_else(|| format!("{forced}, whose data count, has not been read yet"))?;
        let member = loaded.record.configuration.member(loaded.own);
        match member.map(|member| member.state) {
            Some(MemberState::InSync | MemberState::OutOfDate { .. }) => {}
            Some(MemberState::Resyncing { .. }) => {
                return Err(format!("{forced} holds a mixture of old and new data: force another member"));
            }
            Some(MemberState::Detached) | None => return Err(format!("{forced} is no member with data")),
        }
        if self.are_all_known(s) || self.has_waited(s) { Ok(Some(forced)) } else { Ok(None) }
    }

    /// Assembles the mirror from the record of the device `base`.
    fn assemble(&self, s: &mut Shared, base: Device) -> Running {
        let mut found = Vec::new();
        let mut highest = 0;
        let Some((_, newest)) = known(s).find(|(device, _)| *device == base) else {
            unreachable!("the device was just found")
        };
        let record = newest.record.clone();
        let mut recorded = record.configuration.clone();
        for device in Device::all() {
            let own = match &s.slot(device).link {
                Link::Known(Ok(loaded)) => loaded.own,
                _ => continue,
            };
            let who = place(&recorded, own).filter(|&who| (who == WITNESS) == (device == Device::WITNESS));
            let Some(who) = who else {
                s.refuse(device, "it was removed from this mirror".to_owned());
                continue;
            };
            if let Link::Known(Ok(loaded)) = std::mem::replace(&mut s.slot(device).link, Link::InUse) {
                highest = highest.max(epoch(&loaded.record.configuration));
                found.push(Found { device, who, loaded });
            }
        }
        let forced =
            self.call.force.and_then(|device| found.iter().find(|f| f.device == device)).map(|f| f.who);
        // If old data count by the operator's word, all other members have diverged from them, or
        // nobody knows what these members lack.
        let old = forced.and_then(|who| recorded.members.get(who)).and_then(|member| member.state.since());
        if let Some(since) = old {
            recorded.generations = since_generation(&recorded.generations, since);
        }
        if let Some(member) = forced.and_then(|who| recorded.members.get_mut(who)) {
            member.state = MemberState::InSync;
        }
        let is_source = |f: &Found| match forced {
            Some(forced) => f.who == forced,
            None => is_usable(&recorded, &f.loaded) || is_on(Mutation::AssembleAnything) && f.who != WITNESS,
        };
        let mut sources: Vec<&Found> = found.iter().filter(|f| is_source(f)).collect();
        // Any source may have been written to where one of them has a hot region.
        let mut hot: Vec<u16> = sources.iter().flat_map(|f| f.loaded.record.hot.iter().copied()).collect();
        hot.extend(record.hot.iter().copied());
        let keeps_all = hot.is_empty() || is_on(Mutation::NoEqualising);
        if !keeps_all {
            // The sources may differ in hot regions. The one with the newest record counts.
            sources.sort_by_key(|f| std::cmp::Reverse((rank(&f.loaded.record.configuration), f.who == 0)));
            sources.truncate(1);
        }
        let current = recorded.generations.current();
        let mut config = recorded.clone();
        config.number = (highest + 1) << ASSEMBLY_SHIFT;
        let mut missed = Vec::new();
        let mut overwritten: Places = 0;
        for (who, member) in config.members.iter_mut().enumerate() {
            let mut blocks = Missed::new(s.options.tree_max());
            let own = found.iter().find(|f| f.who == who);
            let is_source = sources.iter().any(|f| f.who == who);
            for f in &sources {
                if let Some(tree) = f.loaded.missed.get(who).filter(|_| !is_on(Mutation::NoTree)) {
                    blocks.blocks.insert_all(tree);
                }
                // A member that was just added may have reached the newest record only, and not the
                // record of a member in sync, which then has no tree for it.
                let known = f.loaded.record.configuration.members.get(who);
                if !known.is_some_and(|known| known.id == member.id && known.state != MemberState::Detached) {
                    blocks.insert(Extent::new(0, record.blocks));
                }
            }
            // The member itself may be the first to have a record that says that nobody knows what
            // it lacks.
            if let Some(tree) =
                own.and_then(|f| f.loaded.missed.get(who)).filter(|_| !is_on(Mutation::NoTree))
            {
                blocks.blocks.insert_all(tree);
            }
            for &region in &hot {
                blocks.insert(record.region_size.extent(region, record.blocks));
            }
            member.state = match member.state {
                MemberState::Detached => {
                    blocks.clear();
                    MemberState::Detached
                }
                _ if is_source => {
                    blocks.clear();
                    MemberState::InSync
                }
                MemberState::InSync => {
                    let is_equal = own.is_some_and(|f| is_usable(&recorded, &f.loaded));
                    // Of one that is there and equal but for the hot regions, nothing is lost.
                    if is_equal && forced.is_none() {
                        MemberState::Resyncing { since: current }
                    } else {
                        MemberState::OutOfDate { since: current }
                    }
                }
                state => state,
            };
            let is_other = own.is_some_and(|f| !is_same(&recorded, &f.loaded));
            if forced.is_some_and(|forced| forced != who) && (is_other || old.is_some()) {
                // The operator has decided against what it holds, if it is there.
                overwritten |= Places::from(is_other) << who;
                blocks.insert(Extent::new(0, record.blocks));
                if member.state != MemberState::Detached {
                    member.state = MemberState::OutOfDate { since: Generation(s.identifier()) };
                }
            }
            missed.push(blocks);
        }
        if let Some(witness) = &mut config.witness {
            let is_there = found.iter().any(|f| f.who == WITNESS);
            witness.state = if is_there { WitnessState::Current } else { witness.state.lost(current) };
        }
        let kept: Vec<usize> = sources.iter().map(|f| f.who).collect();
        let authority = if forced.is_some() { Authority::Operator } else { Authority::Majority };
        let founding = Founding {
            mirror: record.mirror,
            blocks: record.blocks,
            block_size: record.block_size,
            region_size: record.region_size,
            recorded,
            config,
            authority,
            overwritten,
            hot,
            missed,
        };
        let mut running = founding.found(s);
        for f in found {
            let is_resyncing = f.who != WITNESS
                && matches!(running.config.members[f.who].state, MemberState::Resyncing { since } if since == current && is_usable(&running.recorded, &f.loaded));
            if kept.contains(&f.who) || f.who == WITNESS || is_resyncing {
                let is_active = kept.contains(&f.who);
                running.plug(s, f.who, f.device, f.loaded.area, is_active);
            } else {
                // As one that comes later.
                s.slot(f.device).link = Link::Known(Ok(f.loaded));
            }
        }
        running
    }
}

/// Returns the devices whose metadata are known.
fn known(s: &Shared) -> impl Iterator<Item = (Device, &Loaded)> {
    Device::all().filter_map(|device| match &s.slots[device.index()].link {
        Link::Known(Ok(loaded)) => Some((device, &**loaded)),
        _ => None,
    })
}

fn is_witness(configuration: &Configuration, id: MemberId) -> bool {
    configuration.witness.as_ref().is_some_and(|witness| witness.id == id)
}

fn place(configuration: &Configuration, id: MemberId) -> Option<usize> {
    let member = configuration.members.iter().position(|member| member.id == id);
    member.or_else(|| is_witness(configuration, id).then_some(WITNESS))
}

/// Returns whether a device is a member in sync, by the newest configuration and by its own.
fn is_usable(configuration: &Configuration, loaded: &Loaded) -> bool {
    let state = configuration.member(loaded.own).map(|member| member.state);
    state == Some(MemberState::InSync)
        && configuration.standing(loaded.own, &loaded.record.configuration) == Standing::Current
}

/// Returns whether the data of a device are those of the configuration, or earlier ones.
fn is_same(configuration: &Configuration, loaded: &Loaded) -> bool {
    let standing = configuration.standing(loaded.own, &loaded.record.configuration);
    matches!(standing, Standing::Current | Standing::Missed)
}

/// Returns the generations up to an earlier one.
fn since_generation(generations: &Generations, since: Generation) -> Generations {
    let history = generations.history();
    let older = history.iter().position(|&generation| generation == since).map_or(history.len(), |at| at + 1);
    Generations::from_kept(since, history[older..].to_vec())
}
