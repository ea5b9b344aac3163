//! Protections that the simulator can remove, one at a time, to test that it notices. The numbers
//! are those of the rules in docs/mirror.md.
//!
//! Only the simulator is built with the feature `mutations`. Without it, [`is_on`] is a constant
//! `false`, and no code for mutations remains in the product.

/// A protection to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// 1: A write completes when the first member has it.
    FirstMemberIsEnough,
    /// 2: A write completes before it is recorded which member missed it.
    CompleteBeforeRecord,
    /// 2: A record counts that is on no majority.
    NoMajority,
    /// 3: A write begins before its regions are recorded as hot.
    NoIntentLog,
    /// 3: Members that differ after a crash are not made equal.
    NoEqualising,
    /// 4: A region leaves the intent log when one member was flushed.
    CoolUnflushed,
    /// 4: A region leaves the intent log before what members missed there is recorded.
    NoTreesOnEviction,
    /// 4: A lost cache is ignored.
    NoCacheLost,
    /// 5: Reads go to all of a member that is resynced.
    ReadUnsynced,
    /// 5: A copy does not lock its range.
    CopyUnlocked,
    /// 5: A repair does not lock its range.
    RepairUnlocked,
    /// 6: Overlapping writes go to the members at once.
    WritesUnlocked,
    /// 7: What a member missed is not kept.
    NoTree,
    /// 8: No new generation begins when members go on without one.
    NoNewGeneration,
    /// 8: A member that has diverged is overwritten.
    OverwriteDiverged,
    /// 9: A mirror is assembled from whatever is there.
    AssembleAnything,
    /// 10: A mirror goes on that another host has taken over.
    GoOnRefused,
    /// 10: A host takes the devices over in an order of its own.
    TakeInAnyOrder,
    /// 10: A host takes a device over without knowing whether it still has the first one.
    ClaimUnconfirmed,
    /// 11: A member that does not answer is waited for.
    NoMemberTimeout,
    /// 12: Copying does not keep to its rate.
    NoRate,
    /// 12: Copying takes no notice of users' I/O.
    NoYielding,
    /// 2: A member in sync is detached without being out of date before.
    DetachAtOnce,
    /// 2: The witness's vote comes or goes before that is recorded.
    VoteAtOnce,
    /// 13: A member that is added is not copied in full.
    NoFullCopy,
    /// 14: A flush goes to one member.
    FlushOne,
    /// 15: A verification does not lock its range.
    VerifyUnlocked,
    /// 15: A verification repairs blocks whose region is not in the intent log.
    RepairUnlogged,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 28] = [
        Mutation::FirstMemberIsEnough,
        Mutation::CompleteBeforeRecord,
        Mutation::NoMajority,
        Mutation::NoIntentLog,
        Mutation::NoEqualising,
        Mutation::CoolUnflushed,
        Mutation::NoTreesOnEviction,
        Mutation::NoCacheLost,
        Mutation::ReadUnsynced,
        Mutation::CopyUnlocked,
        Mutation::RepairUnlocked,
        Mutation::WritesUnlocked,
        Mutation::NoTree,
        Mutation::NoNewGeneration,
        Mutation::OverwriteDiverged,
        Mutation::AssembleAnything,
        Mutation::GoOnRefused,
        Mutation::TakeInAnyOrder,
        Mutation::ClaimUnconfirmed,
        Mutation::NoMemberTimeout,
        Mutation::NoRate,
        Mutation::NoYielding,
        Mutation::DetachAtOnce,
        Mutation::VoteAtOnce,
        Mutation::NoFullCopy,
        Mutation::FlushOne,
        Mutation::VerifyUnlocked,
        Mutation::RepairUnlogged,
    ];
}

/// Returns whether a protection is removed.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn is_on(_: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use switch::{is_on, set};

#[cfg(feature = "mutations")]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Returns whether a protection is removed on this OS thread.
    pub fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Removes a protection on this OS thread, or restores all if `mutation` is `None`.
    pub fn set(mutation: Option<Mutation>) {
        ON.set(mutation);
    }
}
