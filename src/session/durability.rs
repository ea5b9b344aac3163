//! Which writes a target's restart may have lost.
//!
//! A write that completed is in the backend, maybe only in its volatile cache. When the target was
//! started anew, its backend may have forgotten the write, and a later flush that succeeds would
//! hide that. So a client remembers, for each channel, whether it has completed a write that no
//! flush has covered since; if so at a restart, the next flush of every channel fails.
//!
//! Nothing here allocates or locks. A write's completion costs two loads, and one locked store for
//! the first write after each flush. A *start* counts the target's starts that this client has
//! seen, from 1.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use dst_wire::Op;

use crate::mutation::{self, Mutation};

/// How the success of an operation changes what a restart of the target may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Something is not flushed.
    Write,
    /// What completed before the operation began is durable.
    Flush,
}

impl Effect {
    /// Returns the effect of an operation.
    pub fn of(op: Op) -> Effect {
        match op {
            Op::Write | Op::Unmap | Op::WriteZeroes | Op::CompareAndWrite => Effect::Write,
            Op::Flush => Effect::Flush,
            Op::Read | Op::Reset => Effect::Nothing,
        }
    }
}

/// The bits of a flush's number in a moment; the start is above them. 2^40 flushes are a million a
/// second for 12 days, 2^24 starts one a second for half a year; an overflow only makes a flush
/// fail without need.
const FLUSH_BITS: u32 = 40;

/// The number of starts for which the newest flush is remembered. A channel is at most one start
/// behind, as a rule.
const STARTS: usize = 4;

/// Returns a moment: a start of the target, and the number of flushes begun before. Moments are
/// ordered.
fn moment(start: u64, flush: u64) -> u64 {
    start << FLUSH_BITS | flush & ((1 << FLUSH_BITS) - 1)
}

/// The newest completed write of one channel, which alone sets it.
#[derive(Debug, Default)]
pub struct Written(AtomicU64);

/// What the channels of one bdev have in common. May be used on any thread.
#[derive(Debug)]
pub struct Durability {
    start: AtomicU64,
    flushes: AtomicU64,
    /// For each of the last starts, the moment up to which everything is durable.
    durable: [AtomicU64; STARTS],
    losses: AtomicU64,
    reported: AtomicU64,
}

impl Default for Durability {
    fn default() -> Durability {
        Durability {
            start: AtomicU64::new(1),
            flushes: AtomicU64::new(1),
            durable: Default::default(),
            losses: AtomicU64::new(0),
            reported: AtomicU64::new(0),
        }
    }
}

impl Durability {
    /// Returns the target's current start: the number of instances that the client has seen.
    pub fn start(&self) -> u64 {
        self.start.load(SeqCst)
    }

    /// Notes that a write is about to complete that a connection of this `start` answered.
    pub fn wrote(&self, written: &Written, start: u64) {
        let now = moment(start, self.flushes.load(SeqCst));
        if written.0.load(SeqCst) != now {
            written.0.store(now, SeqCst);
        }
        // Either `restarted` sees the store above, or this sees the start that it has set.
        if self.start() != start {
            self.lost();
        }
    }

    /// Notes that a flush begins. Returns the number to pass to [`Durability::flushed`].
    pub fn flush_begins(&self) -> u64 {
        self.flushes.fetch_add(1, SeqCst)
    }

    /// Notes that a flush succeeded on a connection of this `start`: every write that completed
    /// before the flush began, and that the same start answered, is durable.
    pub fn flushed(&self, start: u64, flush: u64) {
        self.durable[start as usize % STARTS].fetch_max(moment(start, flush + 1), SeqCst);
    }

    /// Notes that the target was started anew. `all` is every channel's newest write. Returns
    /// whether writes may have been lost.
    pub fn restarted<'a>(&self, all: impl Iterator<Item = &'a Written>) -> bool {
        let before = self.start.fetch_add(1, SeqCst);
        let lost = all.fold(false, |lost, written| lost | self.is_volatile(written, before));
        if lost {
            self.lost();
        }
        lost
    }

    /// Returns whether a channel's newest write was answered by this `start` and is not durable.
    fn is_volatile(&self, written: &Written, start: u64) -> bool {
        let written = written.0.load(SeqCst);
        let durable = self.durable[start as usize % STARTS].load(SeqCst);
        written >> FLUSH_BITS == start && written >= durable
    }

    /// Notes that writes may have been lost.
    fn lost(&self) {
        if !mutation::is_on(Mutation::NoLostCacheRule) {
            self.losses.fetch_add(1, SeqCst);
        }
    }

    /// How often writes may have been lost.
    pub fn losses(&self) -> u64 {
        self.losses.load(SeqCst)
    }

    /// Returns the number of losses that were reported, which a new channel need not report again.
    pub fn reported(&self) -> u64 {
        self.reported.load(SeqCst)
    }

    /// Returns whether a channel that has reported `seen` losses must report one: its flush has to
    /// fail.
    pub fn must_report(&self, seen: &mut u64) -> bool {
        let losses = self.losses();
        let must = losses > *seen;
        if must {
            *seen = losses;
            self.reported.fetch_max(losses, SeqCst);
        }
        must
    }
}

impl Written {
    /// Takes over the newest write of `gone`, a channel that has ended.
    pub fn inherit(&self, gone: &Written) {
        self.0.fetch_max(gone.0.load(SeqCst), SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush(all: &Durability) {
        let flush = all.flush_begins();
        all.flushed(all.start(), flush);
    }

    #[test]
    fn whatever_changes_blocks_may_be_lost() {
        for op in Op::ALL {
            assert_eq!(Effect::of(op) == Effect::Write, op.modifies(), "{op:?}");
            assert_eq!(Effect::of(op) == Effect::Flush, op == Op::Flush, "{op:?}");
        }
    }

    #[test]
    fn what_was_flushed_is_not_lost() {
        let (all, a, b) = (Durability::default(), Written::default(), Written::default());
        assert!(!all.restarted([&a, &b].into_iter()), "nothing was written");
        all.wrote(&a, 2);
        all.wrote(&b, 2);
        flush(&all);
        assert!(!all.restarted([&a, &b].into_iter()));
        assert_eq!(all.losses(), 0);
    }

    #[test]
    fn a_write_behind_the_last_flush_is_reported_by_each_channel_once() {
        let (all, a, b) = (Durability::default(), Written::default(), Written::default());
        let (mut seen_a, mut seen_b) = (all.reported(), all.reported());
        let early = all.flush_begins();
        all.wrote(&a, 1);
        all.flushed(1, early);
        assert!(all.restarted([&a, &b].into_iter()), "the flush began before the write completed");
        assert!(all.must_report(&mut seen_a) && !all.must_report(&mut seen_a));
        assert!(all.must_report(&mut seen_b));
        assert!(!all.must_report(&mut all.reported()), "a channel that is opened later");
        assert!(!all.restarted([&a, &b].into_iter()), "once");
    }

    #[test]
    fn an_answer_that_comes_late_is_a_loss() {
        let (all, a) = (Durability::default(), Written::default());
        let mut seen = all.reported();
        assert!(!all.restarted([&a].into_iter()));
        all.wrote(&a, 1);
        assert!(all.must_report(&mut seen), "of the start before");
    }

    #[test]
    fn a_channel_that_ended_counts() {
        let (all, a, past) = (Durability::default(), Written::default(), Written::default());
        all.wrote(&a, 1);
        past.inherit(&a);
        assert!(all.restarted([&past].into_iter()));
    }
}
