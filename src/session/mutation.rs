//! Protections that the simulator can take away, one at a time, to see that it notices.
//!
//! In a build without the feature `mutations`, which only the simulator has, [`is_on`] is a constant
//! `false`: nothing of this is in what users run.

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The target lets a queue's next connection in before the one before it is fenced.
    NoFence,
    /// The target opens a session before the previous one of its client is over.
    NoSessionFence,
    /// The target executes what arrives after the lease has run out.
    NoLeaseAtTarget,
    /// The client fails an I/O at its deadline, whether or not it may still be executed.
    NoLeaseAtClient,
    /// The client fails an I/O that the backend may have, and goes on with the session.
    NoSessionGivenUp,
    /// The client fails an I/O that the backend may have before all its channels have left the session.
    NoOthersLeft,
    /// The client goes on with an attempt to have a connection of a session that it has given up.
    AttemptGoesOn,
    /// The client's channel takes a welcome to a session that was given up meanwhile.
    OldWelcome,
    /// The client uses another target at once, whether or not the one before may still execute.
    NoLeaseAtFailover,
    /// The target executes a repeated request again.
    NoRecord,
    /// The client repeats in a new session what must not be executed twice.
    RepeatUnrepeatable,
    /// The client takes a lost connection for an answer.
    LossAnswers,
    /// The client does not fail the flush after writes were lost.
    NoLostCacheRule,
    /// The client takes a device for the one from before, whatever it is.
    NoIdentity,
    /// The target lets those write who may only read.
    NoAccess,
    /// The client fails I/O at its first loss of the connection.
    NoPatience,
    /// The client's I/O has no deadline.
    NoDeadline,
    /// The client begins more transactions than it was granted.
    NoCredits,
    /// The target answers a read before it has the data.
    StaleRead,
    /// The client's deletion leaves I/O behind.
    NoRemoval,
    /// The client's reset does not wait for other threads' I/O.
    ResetAlone,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 21] = [
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
        Mutation::NoLostCacheRule,
        Mutation::NoIdentity,
        Mutation::NoAccess,
        Mutation::NoPatience,
        Mutation::NoDeadline,
        Mutation::NoCredits,
        Mutation::StaleRead,
        Mutation::NoRemoval,
        Mutation::ResetAlone,
    ];
}

/// Whether a protection is taken away.
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

    /// Whether a protection is taken away on this OS thread.
    pub fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Takes a protection away on this OS thread; `None`: all are in place.
    pub fn set(mutation: Option<Mutation>) {
        ON.set(mutation);
    }
}
