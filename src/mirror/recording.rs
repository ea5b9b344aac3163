//! Records: what has to be durable before what.
//!
//! One record is written at a time, to all devices that are to have it: the trees first, if it has
//! any, and the superblock once they are durable. What changes meanwhile is in the next one. A
//! record counts once it is durable on all members in sync, and, if it changes the configuration,
//! on a majority of the voters of the configuration before it.
//!
//! A record with which a member comes or goes also needs a majority of the voters that it names
//! (`changes.rs`).
//!
//! Recording that members missed something takes two records. The first one says so, still in the
//! generation that those members have; once it counts, the second one begins a new generation. Were
//! it one record, a minority that wrote it and never went on would seem to have gone on alone.

use crate::changes::changes_members;
use crate::configuration::{Configuration, MemberState, WitnessState};
use crate::generation::Generation;
use crate::handles::Device;
use crate::input::Outcome;
use crate::joining::epoch;
use crate::metadata::{Record, Update};
use crate::mutation::{Mutation, is_on};
use crate::output::Rare;
use crate::quorum::{has_same_voters, may_begin, may_record};
use crate::requests::Purpose;
use crate::running::{
    Authority, Beginning, Leftovers, Mode, Places, Port, Progress, Round, Running, WITNESS, in_sync,
    says_the_same,
};
use crate::shared::Shared;

impl Running {
    /// Returns whether a device waits for its first record, after which it is used. The device of a
    /// member that is being removed is not used any more, whatever is recorded.
    fn is_joining(&self, who: usize) -> bool {
        let is_used = match who {
            WITNESS => {
                self.config.witness.as_ref().is_some_and(|witness| witness.state == WitnessState::Current)
            }
            _ => self.members().contains(&who) && (self.is_in_sync(who) || self.is_resyncing(who)),
        };
        is_used && self.up(who).is_some_and(|up| !up.is_active)
    }

    /// Begins a record if one is due and none is being written.
    pub(crate) fn begin_round(&mut self, s: &mut Shared) {
        if self.round.is_some() || !matches!(self.mode, Mode::Serving | Mode::Stopping { .. }) {
            return;
        }
        if self.sources() == 0 {
            return;
        }
        let departs = self.claimed & !in_sync(&self.config) != 0;
        let renews = self.is_renewal_due && !departs;
        let is_new = !says_the_same(&self.config, &self.recorded);
        let is_change = is_new
            || renews
            || self.beginning != Beginning::Over
            || self.authority == Authority::All
            || departs
            || (self.leftovers != Leftovers::None && self.is_changing())
            || (0..self.ports.len()).any(|who| self.is_joining(who));
        let logs = self.wants_record || self.wants_trees || self.regions.wants_record(None);
        let may_change =
            is_change && self.may_count(&self.next_configuration(), |who| self.up(who).is_some());
        let config = if may_change && self.beginning != Beginning::Over {
            // The first record says only that a new owner has assembled the mirror.
            self.recorded.clone()
        } else if may_change {
            if renews && self.config.generations.current() == self.recorded.generations.current() {
                if is_on(Mutation::NoNewGeneration) {
                    self.is_renewal_due = false;
                } else {
                    self.config.generations.advance(Generation(s.identifier()));
                }
            }
            self.next_configuration()
        } else if logs && self.is_settled() && self.beginning == Beginning::Over {
            self.recorded.clone()
        } else {
            self.is_stalled = is_change;
            return;
        };
        self.is_stalled = is_change && !may_change;
        self.config.number = self.config.number.max(self.recorded.number) + 1;
        self.config.accepted = match self.beginning {
            Beginning::Announcing => self.recorded.accepted,
            Beginning::Adopting | Beginning::Over => self.config.number,
        };
        let (number, accepted) = (self.config.number, self.config.accepted);
        let config = Configuration { number, accepted, ..config };
        self.send_round(s, config, may_change);
    }

    /// Returns what is to be recorded next. Where a member comes or goes, the witness's vote stays
    /// as it is.
    fn next_configuration(&self) -> Configuration {
        let mut next = self.config.clone();
        if changes_members(&next, &self.recorded) {
            next.witness.clone_from(&self.recorded.witness);
        }
        next
    }

    /// Returns whether a change to `next` counts, given the places at which it is durable.
    fn may_count(&self, next: &Configuration, is_durable: impl Fn(usize) -> bool) -> bool {
        if self.authority != Authority::Majority || is_on(Mutation::NoMajority) {
            return true;
        }
        let on = |id| self.place(id).is_some_and(&is_durable);
        let is_exact = self.beginning != Beginning::Over || self.leftovers == Leftovers::OtherVoters;
        let counts = match is_exact && !is_on(Mutation::AssembleAnything) {
            true => may_begin(&self.recorded, on),
            false => may_record(&self.recorded, on),
        };
        // A change of the members needs two majorities: of the voters before (rule 2), and of those
        // after. They differ by one voter, so the two have a voter in common.
        let is_change = self.beginning == Beginning::Over && changes_members(next, &self.recorded);
        counts && (!is_change || may_record(next, on))
    }

    fn send_round(&mut self, s: &mut Shared, config: Configuration, is_change: bool) {
        let evicts = self.regions.evicts() && !is_on(Mutation::NoTreesOnEviction);
        let has_trees = std::mem::take(&mut self.wants_trees) || evicts;
        self.wants_record = false;
        self.counts.records += 1;
        let mut versions = [0; crate::MEMBERS_MAX];
        let mut trees = Vec::with_capacity(self.missed.len());
        let has_stale = (0..self.ports.len()).any(|who| self.up(who).is_some_and(|up| up.is_stale));
        for (who, missed) in self.missed.iter().enumerate().filter(|_| has_trees || has_stale) {
            versions[who] = missed.version;
            let mut tree = missed.blocks.clone();
            tree.insert_all(&missed.copied);
            tree.insert_all(&missed.flushing);
            trees.push((tree, missed.version != missed.durable));
        }
        let mut hot: Vec<u16> = self.regions.hot().collect();
        if !self.is_registered {
            hot.extend_from_slice(&self.found_hot);
        }
        hot.sort_unstable();
        hot.dedup();
        let record = Record {
            mirror: self.mirror,
            block_size: self.block_size,
            blocks: self.blocks,
            configuration: config.clone(),
            region_size: self.regions.size(),
            hot,
        };
        // The members that were in sync before have to know first that another one is in sync
        // again: a member that does not know, and is alone later, goes on from its own record.
        let before = in_sync(&self.recorded) & in_sync(&config);
        let promotes = in_sync(&config) & !before != 0;
        let progress = (0..self.ports.len()).map(|who| match &self.ports[who] {
            // A record without a witness has no place for what its device is.
            Port::Up(_) if who == WITNESS && config.witness.is_none() => Progress::None,
            Port::Up(up) if is_change || (who != WITNESS && up.is_active) => Progress::Waiting,
            Port::Up(_) | Port::Down { .. } => Progress::None,
        });
        let progress = progress.collect();
        let ticket = self.regions.record_begun();
        self.round = Some(Round { record, trees, config, is_change, ticket, has_trees, versions, progress });
        self.send_to(s, if promotes { before } else { !0 });
    }

    /// Sends a record to the devices at these places, as far as they wait for it.
    fn send_to(&mut self, s: &mut Shared, places: Places) {
        let Some(round) = &mut self.round else { return };
        for (who, port) in self.ports.iter_mut().enumerate() {
            let progress = &mut round.progress[who];
            let Port::Up(up) = port else { continue };
            if places & 1 << who == 0 || !matches!(progress, Progress::Waiting) {
                continue;
            }
            let brings = |changed: bool| who != WITNESS && (up.is_stale || (round.has_trees && changed));
            let changed = round.trees.iter().enumerate().filter(|(_, (_, changed))| brings(*changed));
            let changed: Vec<_> = changed.map(|(at, (tree, _))| (at, tree)).collect();
            let update = up.area.update(&round.record, &changed);
            *progress = begin_update(s, up.device, update);
        }
    }

    /// Returns whether a device has parts of a record that is not durable there.
    pub(crate) fn is_being_recorded(&self, who: usize) -> bool {
        let progress = self.round.as_ref().map(|round| &round.progress[who]);
        !matches!(
            progress,
            None | Some(Progress::None | Progress::Waiting | Progress::Durable | Progress::Failed)
        )
    }

    /// A device has carried out a step of a record.
    pub(crate) fn record_done(&mut self, s: &mut Shared, who: usize, outcome: Outcome) {
        self.is_stirred = true;
        let (Some(round), Port::Up(up)) = (&mut self.round, &mut self.ports[who]) else { return };
        let progress = &mut round.progress[who];
        let device = up.device;
        if outcome != Outcome::Success {
            if matches!(progress, Progress::None | Progress::Durable | Progress::Failed) {
                // Another write of the same step has failed before.
                return;
            }
            // It is not known what the device has now: its metadata are read again, even if it is
            // the last member in sync.
            *progress = Progress::Failed;
            return self.give_up(s, who, "its metadata could not be written");
        }
        *progress = match std::mem::replace(progress, Progress::None) {
            Progress::Trees { left, superblock } if left > 1 => {
                Progress::Trees { left: left - 1, superblock }
            }
            Progress::Trees { superblock, .. } => {
                s.requests.flush(device, Purpose::Record);
                Progress::TreesFlush { superblock }
            }
            Progress::TreesFlush { superblock } => {
                s.requests.metadata_write(device, Purpose::Record, superblock.at, superblock.bytes);
                Progress::Superblock
            }
            Progress::Superblock => {
                s.requests.flush(device, Purpose::Record);
                Progress::SuperblockFlush
            }
            Progress::SuperblockFlush => {
                up.area.written();
                up.is_stale = false;
                Progress::Durable
            }
            other @ (Progress::None | Progress::Waiting | Progress::Durable | Progress::Failed) => other,
        };
        self.end_round(s);
    }

    /// A device is given up: it does not have the record.
    pub(crate) fn leave_round(&mut self, s: &mut Shared, who: usize) {
        if let Some(round) = &mut self.round {
            if !matches!(round.progress[who], Progress::None) {
                round.progress[who] = Progress::Failed;
            }
            self.end_round(s);
        }
    }

    /// Ends the record if all devices have answered.
    fn end_round(&mut self, s: &mut Shared) {
        let is_answered = |p: &Progress| matches!(p, Progress::None | Progress::Durable | Progress::Failed);
        let is_waiting = |p: &Progress| is_answered(p) || matches!(p, Progress::Waiting);
        let Some(round) = self.round.take_if(|round| round.progress.iter().all(is_waiting)) else { return };
        if round.progress.iter().any(|p| matches!(p, Progress::Waiting)) {
            let first = in_sync(&self.recorded) & in_sync(&round.config);
            let has_it = |who: usize| matches!(round.progress[who], Progress::Durable);
            let goes_on = self.members().all(|who| first & 1 << who == 0 || has_it(who));
            if goes_on {
                self.round = Some(round);
                return self.send_to(s, !0);
            }
        }
        self.is_stirred = true;
        let is_durable = |who: usize| matches!(round.progress[who], Progress::Durable);
        let failed = (0..self.ports.len()).any(|who| matches!(round.progress[who], Progress::Failed));
        if self.authority == Authority::All && failed {
            return self.end(s, "a device's metadata could not be written".to_owned());
        }
        let wanted = in_sync(&round.config) & in_sync(&self.config);
        let is_on_all = wanted != 0 && self.members().all(|who| wanted & 1 << who == 0 || is_durable(who));
        // A device has come that knows of a higher epoch, so this owner announces itself again.
        let is_late = epoch(&round.config) < epoch(&self.config);
        let is_on_majority = !is_late && (!round.is_change || self.may_count(&round.config, is_durable));
        if !is_on_all || !is_on_majority {
            // Some devices may have the record all the same.
            if round.is_change && self.leftovers != Leftovers::OtherVoters {
                self.leftovers = match has_same_voters(&round.config, &self.recorded) {
                    true => Leftovers::SameVoters,
                    false => Leftovers::OtherVoters,
                };
            }
            self.claimed |= in_sync(&round.config);
            self.wants_trees |= round.has_trees;
            self.wants_record = true;
            return;
        }
        self.count_round(s, round);
    }

    /// A record counts.
    fn count_round(&mut self, s: &mut Shared, round: Round) {
        let recorded = in_sync(&round.config);
        if round.is_change {
            self.leftovers = Leftovers::None;
            let is_new = round.config.generations.current() != self.recorded.generations.current();
            self.is_renewal_due &= !is_new;
            if is_new || self.authority == Authority::All {
                self.authority = Authority::Majority;
            }
            match self.beginning {
                Beginning::Announcing => self.beginning = Beginning::Adopting,
                Beginning::Adopting => self.beginning = Beginning::Over,
                Beginning::Over => {
                    self.is_renewal_due |=
                        self.claimed & !recorded != 0 || self.authority == Authority::Operator;
                    self.claimed = recorded;
                }
            }
        }
        self.regions.recorded(round.ticket);
        for (who, missed) in self.missed.iter_mut().enumerate() {
            if round.has_trees {
                missed.durable = round.versions[who];
            }
        }
        for who in 0..self.ports.len() {
            let is_durable = matches!(round.progress[who], Progress::Durable);
            if let Some(up) = self.up_mut(who).filter(|_| round.has_trees && !is_durable) {
                // From now on, these trees count as written.
                up.is_stale = true;
            }
            let is_called = match who {
                WITNESS => round.config.witness.as_ref().is_some_and(|w| w.state == WitnessState::Current),
                _ => round.config.members.get(who).is_some_and(|member| {
                    let is_used = matches!(member.state, MemberState::InSync | MemberState::Resyncing { .. });
                    is_used && member.state == self.config.members[who].state
                }),
            };
            let begins = round.is_change && self.beginning == Beginning::Over;
            if let Some(up) = self.up_mut(who).filter(|_| begins && is_durable && is_called) {
                up.is_active = true;
            }
        }
        for who in self.members() {
            let was_in_sync = in_sync(&self.recorded) & 1 << who != 0;
            if recorded & 1 << who != 0 && !was_in_sync {
                s.requests.notice(format!("{} is in sync", self.name(who)));
            }
        }
        *self.recorded = round.config;
        if !self.is_registered && self.is_settled() && self.beginning == Beginning::Over {
            self.is_registered = true;
            let (mirror, blocks, block_size) = (self.mirror, self.blocks, self.block_size);
            s.requests.push(Rare::Register { mirror, blocks, block_size });
        }
    }
}

/// Begins to write a record to a device.
fn begin_update(s: &mut Shared, device: Device, update: Update) -> Progress {
    let Update { trees, superblock } = update;
    if trees.is_empty() {
        s.requests.metadata_write(device, Purpose::Record, superblock.at, superblock.bytes);
        return Progress::Superblock;
    }
    let left = trees.len();
    for tree in trees {
        s.requests.metadata_write(device, Purpose::Record, tree.at, tree.bytes);
    }
    Progress::Trees { left, superblock }
}
