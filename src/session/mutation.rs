//! Protections that the simulator can remove, one at a time, to test that it notices.
//!
//! Only the simulator is built with the feature `mutations`. Without it, [`is_on`] is a constant
//! `false`, and no code for mutations remains in the product.

/// A protection to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The target admits a queue's next connection before the previous one is fenced.
    NoFence,
    /// The target opens a session before its client's previous session has ended.
    NoSessionFence,
    /// The target executes what arrives after the lease has ended.
    NoLeaseAtTarget,
    /// The client fails an I/O at its deadline, whether or not it may still be executed.
    NoLeaseAtClient,
    /// The client fails an I/O that the backend may have, and continues to use the session.
    NoSessionGivenUp,
    /// The client fails an I/O that the backend may have before all its channels have left the
    /// session.
    NoOthersLeft,
    /// The client continues an attempt to connect to a session that it has given up.
    AttemptGoesOn,
    /// The client's channel accepts a welcome to a session that was given up in the meantime.
    OldWelcome,
    /// The client uses another target at once, whether or not the previous one may still execute.
    NoLeaseAtFailover,
    /// The target executes a request again that it has already answered.
    NoRecord,
    /// The client sends a request again in a new session although it must not be executed twice.
    RepeatUnrepeatable,
    /// The client treats the loss of a connection as an answer.
    LossAnswers,
    /// The target answers what the backend fails because its bdev was removed.
    RemovalAnswers,
    /// The client does not fail the next flush after completed writes were lost.
    NoLostCacheRule,
    /// The client accepts any device as the previous one.
    NoIdentity,
    /// The target lets a host write that may only read.
    NoAccess,
    /// The target leaves sessions as they are when their host's rights change.
    KeepRights,
    /// The client fails I/O at the first loss of the connection.
    NoPatience,
    /// The client's I/O has no deadline.
    NoDeadline,
    /// The client takes the time at the beginning of a turn for what is submitted within it.
    OldTime,
    /// The client begins more transactions than it was granted credits.
    NoCredits,
    /// The target answers a read before it has the data.
    StaleRead,
    /// The client's deletion leaves I/O behind.
    NoRemoval,
    /// The client's reset does not wait for other threads' I/O.
    ResetAlone,
    /// The client's I/O does not wait for a connection once the process was told to stop.
    StopIsImpatient,
    /// Each I/O of a process that was told to stop has its own patience.
    StopWaitsForEach,
    /// The target passes every reset on to the backend.
    ResetsReachBackend,
    /// The target answers what a reset of another host has ended.
    ResetsEndOthers,
    /// The target executes a compare-and-write again that a reset of another host has ended.
    ExecuteUnrepeatableAgain,
    /// The client fails I/O at once as soon as it has no connection, before
    /// `fast_io_fail_timeout_ms` has passed.
    FailsTooFast,
    /// The client fails what it sent after `fast_io_fail_timeout_ms`, whether or not it may still be
    /// executed.
    NoFenceAtFastFail,
    /// The client's I/O waits for its deadline, although `fast_io_fail_timeout_ms` has passed.
    NoFastFail,
    /// The client keeps its bdev after `loss_timeout_ms`.
    NoLossTimeout,
    /// The client's channels go on using an address at which the target does not know the session.
    UseOtherInstance,
    /// The target does not end the sessions of others when an export gets another owner.
    NoTakeoverEnd,
    /// The target lets a new owner in while the backend has something of others.
    NoTakeoverFence,
    /// The target lets a new owner in before that is durable.
    OwnerNotDurable,
    /// The target lets a former owner of the owner's host in.
    OldOwner,
    /// The target grants a claim that comes too late.
    StaleClaim,
    /// The target answers an operation that goes in parts when the first part is done.
    FirstPartOnly,
    /// The target executes what overlaps a request that it holds.
    NoHolding,
    /// The target says that it holds a request before all its threads know.
    HeldTooEarly,
    /// The client fails an I/O when it has sent the abort.
    AbortIsEnough,
    /// The target receives into a buffer that still holds the data of a write.
    ReceiveOverWrites,
    /// The target lets an owner in although the state file may name another one.
    OwnerInDoubt,
    /// The target leaves a note of an orderly stop although a flush has failed.
    NoteDespiteFailedFlush,
    /// The target leaves the note of the start before it where it is.
    NoteStays,
    /// A target that stops says that it has not executed what its backend still has.
    GoodbyeTooEarly,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 48] = [
        Mutation::NoFence,
        Mutation::NoSessionFence,
        Mutation::NoLeaseAtTarget,
        Mutation::NoLeaseAtClient,
        Mutation::NoSessionGivenUp,
        Mutation::NoOthersLeft,
        Mutation::AttemptGoesOn,
        Mutation::OldWelcome,
        Mutation::NoLeaseAtFailover,
        Mutation::NoRecord,
        Mutation::RepeatUnrepeatable,
        Mutation::LossAnswers,
        Mutation::RemovalAnswers,
        Mutation::NoLostCacheRule,
        Mutation::NoIdentity,
        Mutation::NoAccess,
        Mutation::KeepRights,
        Mutation::NoPatience,
        Mutation::NoDeadline,
        Mutation::OldTime,
        Mutation::NoCredits,
        Mutation::StaleRead,
        Mutation::NoRemoval,
        Mutation::ResetAlone,
        Mutation::StopIsImpatient,
        Mutation::StopWaitsForEach,
        Mutation::ResetsReachBackend,
        Mutation::ResetsEndOthers,
        Mutation::ExecuteUnrepeatableAgain,
        Mutation::FailsTooFast,
        Mutation::NoFenceAtFastFail,
        Mutation::NoFastFail,
        Mutation::NoLossTimeout,
        Mutation::UseOtherInstance,
        Mutation::NoTakeoverEnd,
        Mutation::NoTakeoverFence,
        Mutation::OwnerNotDurable,
        Mutation::OldOwner,
        Mutation::StaleClaim,
        Mutation::FirstPartOnly,
        Mutation::NoHolding,
        Mutation::HeldTooEarly,
        Mutation::AbortIsEnough,
        Mutation::ReceiveOverWrites,
        Mutation::OwnerInDoubt,
        Mutation::NoteDespiteFailedFlush,
        Mutation::NoteStays,
        Mutation::GoodbyeTooEarly,
    ];
}

/// Returns whether a protection is removed.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn is_on(_: Mutation) -> bool {
    false
}

/// Returns whether the target is of a version that does not know aborts.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn has_no_aborts() -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use switch::{has_no_aborts, is_on, set, set_aborts};

#[cfg(feature = "mutations")]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
        static NO_ABORTS: Cell<bool> = const { Cell::new(false) };
    }

    /// Returns whether a protection is removed on this OS thread.
    pub fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Returns whether targets on this OS thread are of a version that does not know aborts.
    pub fn has_no_aborts() -> bool {
        NO_ABORTS.get()
    }

    /// Sets whether targets on this OS thread know aborts.
    pub fn set_aborts(known: bool) {
        NO_ABORTS.set(!known);
    }

    /// Removes a protection on this OS thread, or restores all if `mutation` is `None`.
    pub fn set(mutation: Option<Mutation>) {
        ON.set(mutation);
    }
}
