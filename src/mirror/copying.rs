//! The state of a resync: its slots, the credit that its rate gives, and its turns.

use crate::credit::Credit;
use crate::extents::Extent;
use crate::mutation::{Mutation, is_on};
use crate::output::Output;
use crate::shared::Shared;

/// The most bytes of a copy, and of a window that is compared, while users do I/O: 0.13 ms at 1 Gbit/s,
/// where a user's request of 4 KiB takes about as long with the way there and back. A disk that
/// carries out the requests that it has in their order makes a user wait that much longer.
const YIELDING_BYTES: u64 = 16 * 1024;

/// The rate in bytes per second below which copying does not fall for yielding, as far as a copy has room
/// for it: where a small copy takes long, which is where the device is slow or its CPU is busy, the next
/// one is larger. Otherwise 10 TB behind a disk that takes 10 ms for a request would take months. Eight
/// times what Linux's md guarantees (`sync_speed_min`), whose copies do not yield as much.
const LOWEST_RATE: u64 = 8 << 20;

/// The time in µs for which copying leaves the members to users after one of their I/Os, since the
/// next one is likely to come.
const YIELDING_US: u64 = 250_000;

/// What a slot is used for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Copy {
    Free,
    /// The range is being locked.
    Locking(Extent),
    /// A member is read.
    Reading {
        range: Extent,
        from: usize,
        lost_caches: u32,
    },
    /// The member that is resynced is written.
    Writing {
        range: Extent,
        lost_caches: u32,
    },
    /// A member has the request, and the last member in sync may have lost what was read: the range
    /// stays missed.
    Stale,
    /// A verification has the slot.
    Lent,
}

/// The turn of a mirror that has a rate in common with others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Turn {
    /// No turn is wanted.
    None,
    /// The driver was asked for a turn, for so many bytes. The mirror's own rate has given them.
    Wanted { bytes: u64 },
    /// The turn has come, and is not used yet.
    Given { bytes: u64 },
}

/// The copying of blocks from one member to another one.
pub(crate) struct Copying {
    pub(crate) slots: Vec<Copy>,
    /// The number of slots with copies.
    pub(crate) busy: usize,
    /// The blocks of a slot.
    pub(crate) slot_blocks: u64,
    /// The member that is resynced, while slots are busy or there is more to do.
    pub(crate) member: Option<usize>,
    /// The block to go on from.
    pub(crate) position: u64,
    /// Whether blocks were skipped that could not be read.
    pub(crate) has_skipped: bool,
    /// The members, a bit each, that lack nothing but such blocks.
    pub(crate) skipped: u16,
    /// The time in µs before which those members are not tried again.
    pub(crate) retry_at: u64,
    /// Whether the member is being flushed.
    pub(crate) is_flushing: bool,
    /// The time before which nothing is copied, because of the rate.
    /// 0: nothing waits for a time.
    pub(crate) not_before: u64,
    pub(crate) credit: Credit,
    pub(crate) turn: Turn,
    pub(crate) recorded_at: u64,
    /// The time in µs of the newest I/O of a user.
    pub(crate) users_at: Option<u64>,
    yielding: Yielding,
}

/// What is known of copies while users do I/O: one at a time.
#[derive(Debug, Clone, Copy, Default)]
struct Yielding {
    /// When the one that is under way had its range, in µs.
    began_at: Option<u64>,
    /// How long the last one took from then on, in µs. 0: there was none since there was I/O.
    took_us: u64,
}

impl Copying {
    pub(crate) fn new(slots: u16, slot_blocks: u64) -> Copying {
        Copying {
            slots: vec![Copy::Free; slots.into()],
            busy: 0,
            slot_blocks,
            member: None,
            position: 0,
            has_skipped: false,
            skipped: 0,
            retry_at: 0,
            is_flushing: false,
            not_before: 0,
            credit: Credit::new(),
            turn: Turn::None,
            recorded_at: 0,
            users_at: None,
            yielding: Yielding::default(),
        }
    }

    /// What is being copied may be lost at its source.
    pub(crate) fn distrust(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot, Copy::Reading { .. } | Copy::Writing { .. }) {
                *slot = Copy::Stale;
            }
        }
    }

    /// Returns how many copies may be under way, and the most blocks of each. While users do I/O, it
    /// is one small copy: for each of their requests, a member has one of the copying to do before, no
    /// matter how fast the member is.
    pub(crate) fn window(&mut self, now: u64, block_size: u32) -> (usize, u64) {
        if !self.yields(now) {
            self.yielding = Yielding::default();
            return (self.slots.len(), self.slot_blocks);
        }
        let bytes = YIELDING_BYTES.max(LOWEST_RATE.saturating_mul(self.yielding.took_us) / 1_000_000);
        (1, self.slot_blocks.min((bytes / u64::from(block_size)).max(1)))
    }

    fn yields(&self, now: u64) -> bool {
        self.users_at.is_some_and(|at| now < at + YIELDING_US) && !is_on(Mutation::NoYielding)
    }

    /// A copy has its range, or a window that is compared has.
    pub(crate) fn begins(&mut self, now: u64) {
        self.yielding.began_at = self.yields(now).then_some(now);
    }

    /// A copy or a window has ended.
    pub(crate) fn ends(&mut self, now: u64) {
        if let Some(began_at) = self.yielding.began_at.take() {
            self.yielding.took_us = now - began_at;
        }
    }

    /// Returns when to go on, if a resync waits for a time.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let rate = (self.member.is_some() && self.not_before > 0).then_some(self.not_before);
        let retry = (self.skipped != 0).then_some(self.retry_at);
        rate.into_iter().chain(retry).min()
    }

    /// Returns how many of `bytes` may be copied now, if any: as the mirror's own rate and that of all
    /// mirrors have it. Asks for a turn if it takes one.
    pub(crate) fn allowance(&mut self, s: &mut Shared, bytes: u64) -> Option<u64> {
        match self.turn {
            Turn::Wanted { .. } => return None,
            Turn::Given { bytes: given } => {
                self.turn = Turn::None;
                return Some(given.min(bytes));
            }
            Turn::None => {}
        }
        if !self.take_credit(s.now(), bytes, s.options.resync_rate) {
            return None;
        }
        if s.options.shares_rate {
            self.turn = Turn::Wanted { bytes };
            s.requests.push(Output::WantTurn { bytes });
            return None;
        }
        Some(bytes)
    }

    /// Takes as many bytes from the credit, or says when there are as many.
    fn take_credit(&mut self, now: u64, bytes: u64, rate: u64) -> bool {
        if is_on(Mutation::NoRate) {
            return true;
        }
        match self.credit.take(now, bytes, rate) {
            Ok(()) => true,
            Err(not_before) => {
                self.not_before = not_before;
                false
            }
        }
    }
}
