//! Protections that the simulator can take away, one at a time, to see that it notices.
//!
//! In a build without the feature `mutations`, which only the simulator has, [`is_on`] is a
//! constant `false`: nothing of this is in what users run.

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A neighbour is asked for once only.
    NoRetry,
    /// Frames do not wait for a neighbour's address.
    NoWaiting,
    /// Neighbours are believed for ever.
    NoRefresh,
    /// A neighbour that does not answer is asked for ever.
    NoFailure,
    /// TCP is not told that a neighbour does not answer.
    NoWord,
    /// Addresses are used without a look at who else has them.
    NoDuplicateDetection,
    /// Addresses are not defended.
    NoDefence,
    /// Answers that nobody has asked for are believed.
    NoQuestionCheck,
    /// Announcements are learned from hosts that nobody has to do with.
    NoStrangerCheck,
    /// There is no limit on neighbours that are asked for.
    NoResolvingLimit,
    /// Messages of neighbour discovery may have been forwarded.
    NoHopLimitCheck,
    /// Fragments are taken for whole packets.
    NoFragmentCheck,
    /// The checksum of IPv4 is not verified.
    NoIpv4Checksum,
    /// A router's word that a packet was too long is not passed on.
    NoTooBig,
    /// ICMP errors are believed about other hosts' packets.
    NoQuoteCheck,
    /// All echo requests are answered.
    NoEchoLimit,
    /// The first route that fits is taken.
    NoLongestPrefix,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 17] = [
        Mutation::NoRetry,
        Mutation::NoWaiting,
        Mutation::NoRefresh,
        Mutation::NoFailure,
        Mutation::NoWord,
        Mutation::NoDuplicateDetection,
        Mutation::NoDefence,
        Mutation::NoQuestionCheck,
        Mutation::NoStrangerCheck,
        Mutation::NoResolvingLimit,
        Mutation::NoHopLimitCheck,
        Mutation::NoFragmentCheck,
        Mutation::NoIpv4Checksum,
        Mutation::NoTooBig,
        Mutation::NoQuoteCheck,
        Mutation::NoEchoLimit,
        Mutation::NoLongestPrefix,
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
