//! Writes: to all members in sync, and to those being resynced where they are up to date.
//!
//! A write has its range to itself, so overlapping ones end in the same order on every member. It
//! begins once its regions are recorded as hot, and completes once every member in sync has it, and
//! a record says which members have it not.

use crate::extents::Extent;
use crate::handles::{Devices, IoId};
use crate::input::{Op, Outcome};
use crate::locks::Holder;
use crate::mutation::{Mutation, is_on};
use crate::output::Status;
use crate::regions::Begin;
use crate::requests::{Answer, Purpose};
use crate::roles::each;
use crate::running::{Io, IoState, Mode, Places, Running};
use crate::shared::Shared;

impl Running {
    /// A user's write.
    #[inline]
    pub(crate) fn write(&mut self, s: &mut Shared, io: IoId) {
        let range = self.io(io).range;
        if is_on(Mutation::WritesUnlocked) || self.locks.lock(Holder::Io(io), range) {
            self.begin_write(s, io);
        } else {
            self.io(io).state = IoState::Locking;
        }
    }

    /// A write has its range.
    pub(crate) fn begin_write(&mut self, s: &mut Shared, io: IoId) {
        if !self.held.is_empty() || !self.try_write(s, io) {
            self.io(io).state = IoState::Held;
            self.held.push_back(io);
        }
    }

    /// Begins a write, or fails it. Returns false if it has to be tried again.
    fn try_write(&mut self, s: &mut Shared, io: IoId) -> bool {
        if self.mode != Mode::Serving || self.sources() == 0 {
            self.unlock(Holder::Io(io));
            self.complete(s, io, Status::Failed);
            return true;
        }
        // What members have that others miss is in regions that are hot on both.
        if !self.is_settled() && !is_on(Mutation::CompleteBeforeRecord) {
            return false;
        }
        let range = self.io(io).range;
        match self.regions.begin(range) {
            Begin::Start => self.send_write(s, io),
            Begin::Record if is_on(Mutation::NoIntentLog) => self.send_write(s, io),
            Begin::Record => {
                self.io(io).state = IoState::Recording;
                self.recording.push_back(io);
                self.wants_flush |= self.regions.flushable() >= s.options.hot_max / 4;
                self.is_stirred = true;
            }
            Begin::Full => {
                // Tried again when the flush has ended.
                self.wants_flush = true;
                self.is_stirred |= self.flush.is_none();
                return false;
            }
        }
        true
    }

    /// Sends a write, whose regions are recorded, to the members.
    #[inline]
    fn send_write(&mut self, s: &mut Shared, io: IoId) {
        let roles = self.roles();
        let Io { op, range, .. } = *self.io(io);
        let mut devices = roles.current_devices;
        if roles.others != 0 {
            devices = self.with_others(devices, range, roles.others);
        }
        self.io(io).state = IoState::Writing;
        match op {
            Op::WriteZeroes => s.requests.write_zeroes(devices, io, range),
            _ => s.requests.write(devices, Purpose::Write(io), io, range),
        }
    }

    /// Adds those members not in sync that are up to date in the range of a write. The other ones miss it.
    fn with_others(&mut self, mut devices: Devices, range: Extent, others: Places) -> Devices {
        for who in each(others) {
            let is_up_to_date = self.is_resyncing(who) && !self.missed[who].blocks.overlaps(range);
            match self.active(who).filter(|_| is_up_to_date) {
                Some(device) => devices = devices.with(device),
                None if (self.keeps_tree(who) || self.is_in_sync(who)) && !is_on(Mutation::NoTree) => {
                    self.missed[who].insert(range);
                }
                None => {}
            }
        }
        devices
    }

    /// A member has failed a write, or is the last one that has answered it.
    #[inline]
    pub(crate) fn write_done(
        &mut self,
        s: &mut Shared,
        io: IoId,
        who: usize,
        outcome: Outcome,
        answer: Answer,
    ) {
        assert!(self.io(io).state == IoState::Writing, "an answer to a write that no member has");
        if outcome != Outcome::Success {
            self.fail_member(s, who, "a write has failed");
        }
        if answer.is_last {
            self.end_write(s, io, answer.succeeded);
        }
    }

    /// A write has ended on all members that had it.
    #[inline]
    fn end_write(&mut self, s: &mut Shared, io: IoId, succeeded: Places) {
        let range = self.io(io).range;
        self.regions.end(range);
        self.unlock(Holder::Io(io));
        self.is_stirred |= !self.held.is_empty();
        let lacks = |running: &Running| {
            running.roles().in_sync & !succeeded != 0
                && !(is_on(Mutation::FirstMemberIsEnough) && succeeded != 0)
        };
        let is_missed = lacks(self) && {
            self.leave_those_without(s, succeeded);
            lacks(self)
        };
        if is_missed {
            // The last member in sync has failed it. Others that have it differ now.
            self.miss_everywhere(range);
            self.complete(s, io, Status::Failed);
        } else if self.mode.is_over() {
            self.complete(s, io, Status::Failed);
        } else {
            self.complete_settled(s, io);
        }
    }

    /// Goes on without members in sync that have failed a write. The last one that was in sync has
    /// been kept so far, and another one may be in sync by now, or about to be.
    #[cold]
    fn leave_those_without(&mut self, s: &mut Shared, succeeded: Places) {
        self.call_off(0);
        for who in self.members() {
            if self.is_in_sync(who) && succeeded & 1 << who == 0 {
                self.fail_member(s, who, "a write has failed");
            }
        }
        self.is_stirred = true;
    }

    /// Completes a write or flush once it is recorded which members missed it.
    #[inline]
    pub(crate) fn complete_settled(&mut self, s: &mut Shared, io: IoId) {
        if self.is_settled() || is_on(Mutation::CompleteBeforeRecord) {
            self.complete(s, io, Status::Success);
        } else {
            self.io(io).state = IoState::Settling;
            self.settling.push_back(io);
        }
    }

    /// Counts a range as missed by all members that are not in sync.
    pub(crate) fn miss_everywhere(&mut self, range: Extent) {
        for who in self.members() {
            if self.keeps_tree(who) {
                self.missed[who].insert(range);
            }
        }
    }

    /// Completes what waited for a record of who missed it.
    pub(crate) fn continue_settling(&mut self, s: &mut Shared) {
        let status = match self.sources() {
            0 => Status::Failed,
            _ if self.mode.is_over() => Status::Failed,
            _ if self.is_settled() => Status::Success,
            _ => return,
        };
        while let Some(io) = self.settling.pop_front() {
            self.complete(s, io, status);
        }
    }

    /// Sends the writes whose regions are recorded by now.
    pub(crate) fn continue_recording(&mut self, s: &mut Shared) {
        for _ in 0..self.recording.len() {
            let Some(io) = self.recording.pop_front() else { return };
            let range = self.io(io).range;
            if self.mode != Mode::Serving || self.sources() == 0 {
                self.regions.end(range);
                self.unlock(Holder::Io(io));
                self.complete(s, io, Status::Failed);
            } else if self.is_settled() && self.regions.is_recorded(range) {
                self.send_write(s, io);
            } else {
                self.recording.push_back(io);
            }
        }
    }

    /// Tries the writes again that could not begin.
    pub(crate) fn continue_held(&mut self, s: &mut Shared) {
        while let Some(io) = self.held.pop_front() {
            if !self.try_write(s, io) {
                self.held.push_front(io);
                return;
            }
        }
    }
}
