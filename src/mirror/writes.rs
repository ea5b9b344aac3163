//! Writes: to all members in sync, and to those being resynced where they are up to date.
//!
//! A write has its range to itself, so overlapping ones end in the same order on every member. It
//! begins once its regions are recorded as hot, and completes once every member in sync has it, and
//! a record says which members have it not.

use crate::extents::Extent;
use crate::handles::{Device, IoId};
use crate::input::{Op, Outcome};
use crate::locks::Holder;
use crate::mutation::{Mutation, is_on};
use crate::output::Status;
use crate::regions::Begin;
use crate::requests::Purpose;
use crate::roles::each;
use crate::running::{IoState, Mode, Places, Running};
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
        let (op, range) = (self.io(io).op, self.io(io).range);
        let roles = self.roles();
        let mut pending = 0;
        for who in each(roles.current) {
            send(s, roles.device(who), io, op, range);
            pending += 1;
        }
        if roles.others != 0 {
            pending += self.send_to_others(s, io, roles.others);
        }
        self.io(io).state = IoState::Writing { pending, succeeded: 0 };
    }

    /// Sends a write to those members not in sync that are up to date where it goes. The other ones miss
    /// it. Returns the number of members that have it.
    fn send_to_others(&mut self, s: &mut Shared, io: IoId, others: Places) -> u8 {
        let (op, range) = (self.io(io).op, self.io(io).range);
        let mut sent = 0;
        for who in each(others) {
            let is_up_to_date = self.is_resyncing(who) && !self.missed[who].blocks.overlaps(range);
            match self.active(who).filter(|_| is_up_to_date) {
                Some(device) => {
                    send(s, device, io, op, range);
                    sent += 1;
                }
                None if (self.keeps_tree(who) || self.is_in_sync(who)) && !is_on(Mutation::NoTree) => {
                    self.missed[who].insert(range);
                }
                None => {}
            }
        }
        sent
    }

    /// A member has answered a write.
    #[inline]
    pub(crate) fn write_done(&mut self, s: &mut Shared, io: IoId, who: usize, outcome: Outcome) {
        let IoState::Writing { pending, succeeded } = self.io(io).state else {
            unreachable!("an answer to a write that no member has")
        };
        let has_succeeded = outcome == Outcome::Success;
        let (pending, succeeded) = (pending - 1, succeeded | u16::from(has_succeeded) << who);
        self.io(io).state = IoState::Writing { pending, succeeded };
        if !has_succeeded {
            self.fail_member(s, who, "a write has failed");
        }
        if pending == 0 {
            self.end_write(s, io, succeeded);
        }
    }

    /// A write has ended on all members that had it.
    #[inline]
    fn end_write(&mut self, s: &mut Shared, io: IoId, succeeded: u16) {
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
    fn leave_those_without(&mut self, s: &mut Shared, succeeded: u16) {
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

/// Sends a user's write to a device.
#[inline]
fn send(s: &mut Shared, device: Device, io: IoId, op: Op, range: Extent) {
    match op {
        Op::WriteZeroes => s.requests.write_zeroes(device, io, range),
        _ => s.requests.write(device, Purpose::Write(io), io, range),
    }
}
