//! Flushes: of all members that have data, for users and for the mirror itself.
//!
//! One flush is under way at a time, so what users ask for meanwhile becomes the next one.

use crate::handles::IoId;
use crate::input::Outcome;
use crate::mutation::{Mutation, is_on};
use crate::output::Status;
use crate::requests::Purpose;
use crate::running::{FlushRound, IoState, Mode, Places, Running, in_sync};
use crate::shared::Shared;

impl Running {
    /// A user's flush.
    pub(crate) fn user_flush(&mut self, s: &mut Shared, io: IoId) {
        self.io(io).state = IoState::FlushWaiting;
        self.flush_waiting.push(io);
        self.begin_flush(s);
    }

    /// Begins a flush if one is due and none is under way.
    pub(crate) fn begin_flush(&mut self, s: &mut Shared) {
        if self.flush.is_some() || (self.flush_waiting.is_empty() && !self.wants_flush) {
            return;
        }
        if self.sources() == 0 || self.mode.is_over() {
            self.wants_flush = false;
            while let Some(io) = self.flush_waiting.pop() {
                self.complete(s, io, Status::Failed);
            }
            return;
        }
        self.wants_flush = false;
        std::mem::swap(&mut self.flushing, &mut self.flush_waiting);
        for at in 0..self.flushing.len() {
            let io = self.flushing[at];
            self.io(io).state = IoState::Flushing;
        }
        let ticket = self.regions.flush_begun();
        self.flushes = self.flushes.wrapping_add(1);
        let number = self.flushes;
        let mut pending: Places = 0;
        for who in self.members() {
            let Some(device) = self.active(who).filter(|_| self.is_in_sync(who) || self.is_resyncing(who))
            else {
                continue;
            };
            let is_own = self.flushing.is_empty();
            if pending != 0 && (is_on(Mutation::FlushOne) || (is_on(Mutation::CoolUnflushed) && is_own)) {
                break;
            }
            pending |= 1 << who;
            s.requests.flush(device, Purpose::Flush(number));
        }
        self.flush = Some(FlushRound { number, ticket, pending, failed: 0 });
    }

    /// A member has answered a flush.
    pub(crate) fn flush_done(&mut self, s: &mut Shared, number: u32, who: usize, outcome: Outcome) {
        let Some(flush) = self.flush.as_mut().filter(|f| f.number == number && f.pending & 1 << who != 0)
        else {
            // The member was given up meanwhile.
            return;
        };
        flush.pending &= !(1 << who);
        if outcome != Outcome::Success {
            flush.failed |= 1 << who;
            self.fail_member(s, who, "a flush has failed");
        }
        self.end_flush(s);
    }

    /// A member is given up, or has lost its cache: its part in the flush does not count.
    pub(crate) fn leave_flush(&mut self, s: &mut Shared, who: usize) {
        if let Some(flush) = &mut self.flush {
            flush.pending &= !(1 << who);
            flush.failed |= 1 << who;
            self.end_flush(s);
        }
    }

    fn end_flush(&mut self, s: &mut Shared) {
        let Some(FlushRound { ticket, failed, .. }) = self.flush.take_if(|flush| flush.pending == 0) else {
            return;
        };
        let wanted = in_sync(&self.config);
        let has_succeeded = failed & wanted == 0 && self.sources() != 0 && !self.mode.is_over();
        if has_succeeded {
            self.regions.flushed(ticket);
            if std::mem::take(&mut self.wants_cool) || matches!(self.mode, Mode::Stopping { .. }) {
                self.regions.cool();
                self.wants_record |= self.regions.evicts();
            }
        }
        if let Mode::Stopping { is_flushed, .. } = &mut self.mode {
            *is_flushed = has_succeeded;
        }
        let is_loud = !self.flushing.is_empty() && std::mem::take(&mut self.has_lost);
        for at in 0..self.flushing.len() {
            let io = self.flushing[at];
            match has_succeeded && !is_loud {
                true => self.complete_settled(s, io),
                false => self.complete(s, io, Status::Failed),
            }
        }
        self.flushing.clear();
        self.is_stirred |=
            self.wants_flush || self.wants_record || !self.flush_waiting.is_empty() || !self.held.is_empty();
        self.is_stirred |= self.mode != Mode::Serving || self.verifying.is_logging();
    }

    /// Flushes at times, and lets regions cool that are not in use.
    pub(crate) fn flush_in_time(&mut self, now: u64, interval_us: u64) {
        if now < self.next_flush {
            return;
        }
        self.next_flush = now.saturating_add(interval_us);
        if !self.regions.is_empty() {
            self.wants_cool = true;
            self.wants_flush = true;
            self.is_stirred = true;
        }
    }
}
