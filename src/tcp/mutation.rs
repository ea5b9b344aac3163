//! Mechanisms that the simulator can take away, one at a time, to see that it notices.
//!
//! In a build without the feature `mutations`, which only the simulator has, [`is_on`] is a
//! constant `false`: nothing of this is in what users run.

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The receiver does not report what it has out of order.
    NoSackBlocks,
    /// The sender does not look at SACK blocks.
    NoSackProcessing,
    /// The sender finds no losses by the time of sending.
    NoRack,
    /// RACK does not tolerate reordering.
    NoReorderingTolerance,
    /// The sender does not wait for RACK's tolerance to pass, but for the next ACK.
    NoReorderingTimer,
    /// The sender does not probe for a lost tail.
    NoTailProbe,
    /// Fast recovery sends no faster than it hears.
    NoPrr,
    /// A loss does not reduce the congestion window.
    NoReduction,
    /// No timeout is recognised as spurious.
    NoUndo,
    /// The receiver does not say that its window has opened.
    NoWindowUpdate,
    /// The sender does not probe a closed window.
    NoWindowProbe,
    /// The sender does not look at the peer's window.
    NoPeerWindow,
    /// The receiver takes data beyond its window.
    NoReceiveWindow,
    /// Old segments are not recognised by their timestamps.
    NoPaws,
    /// The receiver does not acknowledge data that comes alone.
    NoDelayedAck,
    /// Lost segments are not sent again after a timeout.
    NoTimeout,
    /// A reset is believed if it lies anywhere in the window.
    NoResetCheck,
    /// A SYN on an open connection resets it.
    NoSynCheck,
    /// Checksums are not verified.
    NoChecksum,
    /// A peer that dropped what it had reported is not noticed.
    NoReneging,
    /// Dead peers are not noticed.
    NoUserTimeout,
    /// A closed connection is forgotten at once.
    NoTimeWait,
    /// Segments that vanish are not suspected to be too long.
    NoBlackHoleDetection,
    /// The peer's duplicates are not reported.
    NoDuplicateReport,
    /// An ICMP error ends a connection attempt whatever segment it is about.
    NoUnreachableCheck,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 25] = [
        Mutation::NoSackBlocks,
        Mutation::NoSackProcessing,
        Mutation::NoRack,
        Mutation::NoReorderingTolerance,
        Mutation::NoReorderingTimer,
        Mutation::NoTailProbe,
        Mutation::NoPrr,
        Mutation::NoReduction,
        Mutation::NoUndo,
        Mutation::NoWindowUpdate,
        Mutation::NoWindowProbe,
        Mutation::NoPeerWindow,
        Mutation::NoReceiveWindow,
        Mutation::NoPaws,
        Mutation::NoDelayedAck,
        Mutation::NoTimeout,
        Mutation::NoResetCheck,
        Mutation::NoSynCheck,
        Mutation::NoChecksum,
        Mutation::NoReneging,
        Mutation::NoUserTimeout,
        Mutation::NoTimeWait,
        Mutation::NoBlackHoleDetection,
        Mutation::NoDuplicateReport,
        Mutation::NoUnreachableCheck,
    ];
}

/// Whether a mechanism is taken away.
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

    /// Whether a mechanism is taken away on this OS thread.
    pub fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Takes a mechanism away on this OS thread; `None`: all are in place.
    pub fn set(mutation: Option<Mutation>) {
        ON.set(mutation);
    }
}
