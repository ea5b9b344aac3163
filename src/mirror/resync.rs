//! Resync: one member at a time is brought up to date, by copying what it missed.
//!
//! The resync goes through the tree of what a member missed from the beginning of the device to its
//! end, as often as it takes. A member of which nothing is known has missed all blocks, so its tree
//! begins with the one range that is left to copy. Each copy locks its range. For reads and writes,
//! a copied block leaves the tree at once; it leaves the recorded tree once the member was flushed.

use crate::configuration::MemberState;
use crate::copying::{Copy, Turn};
use crate::extents::Extent;
use crate::handles::{Device, SlotId};
use crate::input::Outcome;
use crate::locks::Holder;
use crate::mutation::{Mutation, is_on};
use crate::requests::Purpose;
use crate::running::{Mode, Running};
use crate::shared::Shared;

/// The number of slots' worth of copied blocks after which the member is flushed, so that little is
/// copied again after a power loss, and the flushes cost little.
const FLUSH_AFTER: u64 = 256;

/// The time in µs after which the member is flushed in any case, and the progress of the resync is
/// recorded.
const RECORD_INTERVAL: u64 = 10_000_000;

/// The time in µs after which blocks are tried again that could not be read.
const UNREADABLE_RETRY: u64 = 10_000_000;

impl Running {
    /// Returns whether a member can be brought up to date now.
    fn can_resync(&self, who: usize) -> bool {
        let is_recorded = matches!(self.recorded.members[who].state, MemberState::Resyncing { .. });
        self.is_resyncing(who) && is_recorded && self.active(who).is_some() && !self.is_leaving(who)
    }

    /// Goes on with the resync, or begins the next one.
    pub(crate) fn continue_resync(&mut self, s: &mut Shared) {
        if s.now() >= self.copying.retry_at {
            self.copying.skipped = 0;
        }
        if self.mode != Mode::Serving || s.now() < self.copying.not_before {
            return;
        }
        self.copying.not_before = 0;
        let member = self.copying.member.filter(|&who| self.can_resync(who));
        let Some(who) = member.or_else(|| self.next_member()) else {
            if self.copying.busy == 0 {
                self.copying.member = None;
            }
            return;
        };
        if member.is_none() {
            if self.copying.busy > 0 || self.copying.is_flushing {
                // Copies to another member have not ended.
                return;
            }
            self.copying.member = Some(who);
            self.copying.position = 0;
            self.copying.has_skipped = false;
        }
        self.fill_slots(s, who);
        self.flush_copies(s, who);
        self.end_resync(s, who);
        self.skip_unreadable(s, who);
    }

    /// Goes on with another member if everything that can be read is copied to this one. The rest
    /// is tried again after a time.
    fn skip_unreadable(&mut self, s: &mut Shared, who: usize) {
        let is_over = self.copying.busy == 0 && !self.copying.is_flushing;
        let is_at_end = self.missed[who].blocks.next_from(self.copying.position).is_none();
        if !self.copying.has_skipped || !is_over || !is_at_end {
            return;
        }
        if self.copying.skipped == 0 {
            self.copying.retry_at = s.now() + UNREADABLE_RETRY;
        }
        self.copying.skipped |= 1 << who;
        self.copying.member = None;
        self.is_stirred = true;
    }

    fn next_member(&self) -> Option<usize> {
        self.members().find(|&who| self.copying.skipped & 1 << who == 0 && self.can_resync(who))
    }

    /// Begins copies while there are slots, blocks, and credit.
    fn fill_slots(&mut self, s: &mut Shared, who: usize) {
        let (slots, slot_blocks) = self.copying.window(s.now(), self.block_size);
        while self.copying.busy < slots && self.sources() != 0 {
            let Some(missed) = self.missed[who].blocks.next_from(self.copying.position) else {
                // The end of the device: again from the beginning once all copies have ended.
                if self.copying.busy > 0 || self.copying.has_skipped || self.missed[who].blocks.is_empty() {
                    return;
                }
                self.copying.position = 0;
                continue;
            };
            let start = missed.start.max(self.copying.position);
            let range = Extent::between(start, missed.end().min(start + slot_blocks));
            let Some(free) = self.copying.slots.iter().position(|slot| matches!(slot, Copy::Free)) else {
                return;
            };
            let block_size = u64::from(self.block_size);
            let Some(bytes) = self.copying.allowance(s, range.count * block_size) else { return };
            // What is to be copied may have changed while the mirror waited for its turn.
            let range = Extent::new(start, bytes / block_size);
            let slot = SlotId(free as u16);
            self.copying.position = range.end();
            self.copying.busy += 1;
            self.copying.slots[free] = Copy::Locking(range);
            if is_on(Mutation::CopyUnlocked) || self.locks.lock(Holder::Slot(slot), range) {
                self.slot_locked(s, slot);
            }
        }
    }

    /// The mirror has a turn: one copy begins. A turn of which no use can be made is lost, so that the
    /// next copy does not come in addition to another mirror's.
    pub(crate) fn take_turn(&mut self, s: &mut Shared) {
        let Turn::Wanted { bytes } = self.copying.turn else { return };
        self.copying.turn = Turn::Given { bytes };
        self.continue_resync(s);
        if matches!(self.copying.turn, Turn::Given { .. }) {
            self.copying.turn = Turn::None;
        }
    }

    /// A copy has its range.
    pub(crate) fn slot_locked(&mut self, s: &mut Shared, slot: SlotId) {
        let Copy::Locking(range) = self.copying.slots[usize::from(slot.0)] else {
            unreachable!("a lock is granted to a copy that does not wait for one")
        };
        let target = self.copying.member.filter(|&who| self.can_resync(who));
        let source =
            target.filter(|_| self.mode == Mode::Serving).and_then(|who| self.reader(s, range, 1 << who));
        let Some((from, device)) = source else {
            return self.free_slot(s, slot);
        };
        let lost_caches = self.lost_caches[from];
        self.copying.slots[usize::from(slot.0)] = Copy::Reading { range, from, lost_caches };
        self.copying.begins(s.now());
        s.requests.copy_read(device, Purpose::Copy(slot), slot, range);
    }

    fn free_slot(&mut self, s: &Shared, slot: SlotId) {
        self.copying.ends(s.now());
        self.unlock(Holder::Slot(slot));
        self.copying.slots[usize::from(slot.0)] = Copy::Free;
        self.copying.busy -= 1;
        self.is_stirred = true;
    }

    /// A step of a copy has ended.
    pub(crate) fn copy_done(&mut self, s: &mut Shared, slot: SlotId, device: Device, outcome: Outcome) {
        let has_succeeded = outcome == Outcome::Success;
        let target = self.copying.member.filter(|&who| self.can_resync(who) && self.mode == Mode::Serving);
        match self.copying.slots[usize::from(slot.0)] {
            Copy::Reading { range, from, lost_caches } => {
                let target = target.and_then(|who| Some((who, self.active(who)?)));
                match target {
                    Some((who, target)) if has_succeeded && self.is_trusted(from, lost_caches) => {
                        let lost_caches = self.lost_caches[who];
                        self.copying.slots[usize::from(slot.0)] = Copy::Writing { range, lost_caches };
                        s.requests.copy_write(target, Purpose::Copy(slot), slot, range);
                    }
                    _ => {
                        // The range stays in the tree.
                        self.copying.has_skipped |= !has_succeeded;
                        self.free_slot(s, slot);
                    }
                }
            }
            Copy::Writing { range, lost_caches } => {
                match target {
                    Some(who) if self.active(who) == Some(device) && self.is_trusted(who, lost_caches) => {
                        if has_succeeded {
                            self.missed[who].blocks.remove(range);
                            self.missed[who].copied.insert(range);
                            self.missed[who].version += 1;
                            self.counts.copied_blocks += range.count;
                        } else {
                            self.fail_member(s, who, "a copy could not be written");
                        }
                    }
                    _ => {}
                }
                self.free_slot(s, slot);
            }
            Copy::Stale => self.free_slot(s, slot),
            Copy::Free | Copy::Locking(_) | Copy::Lent => {
                unreachable!("an answer to a copy that no member has")
            }
        }
    }

    /// Flushes the member that is resynced when enough was copied.
    fn flush_copies(&mut self, s: &mut Shared, who: usize) {
        let missed = &mut self.missed[who];
        let is_last = missed.blocks.is_empty() && self.copying.busy == 0;
        let is_late = s.now() - self.copying.recorded_at >= RECORD_INTERVAL;
        let is_enough =
            missed.copied.blocks() >= FLUSH_AFTER * self.copying.slot_blocks || is_last || is_late;
        if self.copying.is_flushing || missed.copied.is_empty() || !is_enough {
            return;
        }
        let Some(device) = self.active(who) else { return };
        let missed = &mut self.missed[who];
        std::mem::swap(&mut missed.copied, &mut missed.flushing);
        self.copying.is_flushing = true;
        s.requests.flush(device, Purpose::CopyFlush);
    }

    /// The member that is resynced has answered a flush.
    pub(crate) fn copy_flush_done(&mut self, s: &mut Shared, device: Device, outcome: Outcome) {
        self.copying.is_flushing = false;
        self.is_stirred = true;
        // If the member was given up or has lost its cache, nothing is being flushed any more.
        let Some(who) = self.copying.member.filter(|&who| self.active(who) == Some(device)) else { return };
        if outcome != Outcome::Success {
            return self.fail_member(s, who, "a flush has failed");
        }
        self.missed[who].flushing.clear();
        self.missed[who].version += 1;
        if s.now() - self.copying.recorded_at >= RECORD_INTERVAL {
            self.copying.recorded_at = s.now();
            self.wants_trees = true;
        }
    }

    /// Calls a member in sync that has missed nothing. It counts once that is recorded.
    fn end_resync(&mut self, s: &mut Shared, who: usize) {
        if !self.missed[who].is_empty()
            || self.copying.busy > 0
            || self.copying.is_flushing
            || !self.is_settled()
        {
            return;
        }
        if self.sources() == 0 {
            return;
        }
        s.requests.notice(format!("{} is up to date", self.name(who)));
        self.config.members[who].state = MemberState::InSync;
        self.copying.member = None;
        self.wants_record = true;
        self.is_stirred = true;
    }

    /// Returns the number of blocks that a member lacks.
    pub(crate) fn missed_blocks(&self, who: usize) -> u64 {
        self.missed[who].blocks.blocks()
    }
}
