//! Reads: from a member in sync, or from one that is resynced where it is up to date and the intent
//! log is cold. In a hot region, the last member in sync may lose what a resynced member still has;
//! what was read from that one would be gone. What a member can't read, another one answers, and is
//! written back.

use crate::configuration::MemberState;
use crate::extents::Extent;
use crate::handles::{Device, Devices, IoId};
use crate::input::Outcome;
use crate::locks::Holder;
use crate::mutation::{Mutation, is_on};
use crate::output::Status;
use crate::requests::Purpose;
use crate::roles::each;
use crate::running::{IoState, Mode, Places, Running};
use crate::shared::Shared;

impl Running {
    /// Returns whether a member's blocks are up to date, and the member is there.
    #[inline]
    pub(crate) fn is_readable(&self, who: usize, range: Extent) -> bool {
        self.active(who).is_some()
            && match self.config.members[who].state {
                MemberState::InSync => true,
                MemberState::Resyncing { .. } => {
                    (!self.missed[who].blocks.overlaps(range) && self.regions.is_cold(range))
                        || is_on(Mutation::ReadUnsynced)
                }
                MemberState::OutOfDate { .. } | MemberState::Detached => false,
            }
    }

    /// Returns the member to read from that has the fewest requests, but none of `but`.
    #[inline]
    pub(crate) fn reader(&mut self, s: &Shared, range: Extent, but: Places) -> Option<(usize, Device)> {
        let roles = self.roles();
        let mut readable = roles.current;
        if roles.others != 0 {
            readable |= self.readable_others(roles.others, range);
        }
        readable &= !but;
        // Among equals, each in turn.
        self.rotation = if self.rotation + 1 < self.config.members.len() { self.rotation + 1 } else { 0 };
        let before = readable & ((1 << self.rotation) - 1);
        let mut best: Option<(u32, usize)> = None;
        for places in [readable & !before, before] {
            for who in each(places) {
                let busy = s.requests.in_flight(roles.device(who));
                if best.is_none_or(|(least, _)| busy < least) {
                    best = Some((busy, who));
                }
            }
        }
        best.map(|(_, who)| (who, roles.device(who)))
    }

    /// Returns those of `others`, the members that are not both there and in sync, that can be read.
    fn readable_others(&self, others: Places, range: Extent) -> Places {
        each(others).filter(|&who| self.is_readable(who, range)).fold(0, |set, who| set | 1 << who)
    }

    /// Reads from a member that is none of `failed`.
    pub(crate) fn read(&mut self, s: &mut Shared, io: IoId, failed: Places) {
        let range = self.io(io).range;
        let Some((from, device)) = self.reader(s, range, failed).filter(|_| !self.mode.is_over()) else {
            return self.complete(s, io, Status::Failed);
        };
        let lost_caches = self.lost_caches[from];
        self.io(io).state = IoState::Reading { from, lost_caches, failed };
        s.requests.read(device, Purpose::Read(io), io, range);
    }

    /// Returns whether a member's answer counts, if the member had lost its cache so many times
    /// when it was asked.
    pub(crate) fn is_trusted(&self, from: usize, lost_caches: u32) -> bool {
        // A member that was given up may have lost its cache since, and nobody would report that.
        self.lost_caches[from] == lost_caches && self.up(from).is_some() || is_on(Mutation::NoCacheLost)
    }

    /// A member has answered a read.
    #[inline]
    pub(crate) fn read_done(&mut self, s: &mut Shared, io: IoId, outcome: Outcome) {
        let IoState::Reading { from, lost_caches, failed } = self.io(io).state else {
            unreachable!("an answer to a read that no member has")
        };
        if self.mode.is_over() {
            return self.complete(s, io, Status::Failed);
        }
        match outcome {
            Outcome::Success if !self.is_trusted(from, lost_caches) => self.read(s, io, failed),
            Outcome::Success
                if self.is_resyncing(from) && !self.is_readable(from, self.ios[io.0 as usize].range) =>
            {
                self.read(s, io, failed);
            }
            Outcome::Success if failed == 0 => self.complete(s, io, Status::Success),
            Outcome::Success => {
                self.counts.read_errors += 1;
                self.repair(s, io, failed);
            }
            Outcome::Failed | Outcome::Refused => self.read(s, io, failed | 1 << from),
        }
    }

    /// Repairs members that have failed a read, if they are still there and up to date.
    fn repair(&mut self, s: &mut Shared, io: IoId, failed: Places) {
        let range = self.io(io).range;
        let repairable = |who: &usize| failed & 1 << who != 0 && self.is_readable(*who, range);
        if !self.members().any(|who| repairable(&who)) {
            return self.complete(s, io, Status::Success);
        }
        self.io(io).state = IoState::RepairLocking { failed };
        if is_on(Mutation::RepairUnlocked) || self.locks.lock(Holder::Io(io), range) {
            self.repair_locked(s, io, failed);
        }
    }

    /// The range of a repair is locked: its blocks may have changed since they were read.
    pub(crate) fn repair_locked(&mut self, s: &mut Shared, io: IoId, failed: Places) {
        let range = self.io(io).range;
        let from = self.reader(s, range, failed).filter(|_| self.mode == Mode::Serving);
        let Some((from, device)) = from else {
            return self.end_repair(s, io, Status::Failed);
        };
        let lost_caches = self.lost_caches[from];
        self.io(io).state = IoState::RepairReading { from, lost_caches, failed };
        s.requests.read(device, Purpose::Repair(io), io, range);
    }

    /// A step of a repair has ended.
    pub(crate) fn repair_done(&mut self, s: &mut Shared, io: IoId, outcome: Outcome) {
        let has_succeeded = outcome == Outcome::Success;
        match self.io(io).state {
            IoState::RepairReading { from, lost_caches, failed } => {
                if !has_succeeded {
                    self.repair_locked(s, io, failed | 1 << from);
                } else if !self.is_trusted(from, lost_caches) {
                    self.repair_locked(s, io, failed);
                } else {
                    self.write_back(s, io, failed);
                }
            }
            IoState::Repairing { failed, to } => {
                if has_succeeded {
                    self.counts.repaired_blocks += self.io(io).range.count;
                } else {
                    self.fail_member(s, to, "a block that it could not read could not be written either");
                }
                self.write_back(s, io, failed);
            }
            other => unreachable!("a repair in the state {other:?}"),
        }
    }

    /// Writes the blocks of a read to the next member that has failed it.
    fn write_back(&mut self, s: &mut Shared, io: IoId, failed: Places) {
        let range = self.io(io).range;
        let to = self.members().find(|&who| failed & 1 << who != 0 && self.is_readable(who, range));
        let device = to.and_then(|to| Some((to, self.active(to)?)));
        match device.filter(|_| self.mode == Mode::Serving) {
            Some((to, device)) => {
                self.io(io).state = IoState::Repairing { failed: failed & !(1 << to), to };
                s.requests.write(Devices::of(device), Purpose::Repair(io), io, range);
            }
            None => self.end_repair(s, io, Status::Success),
        }
    }

    fn end_repair(&mut self, s: &mut Shared, io: IoId, status: Status) {
        self.unlock(Holder::Io(io));
        let status = if self.mode.is_over() { Status::Failed } else { status };
        self.complete(s, io, status);
    }
}
