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
    /// Slow start ends only by a loss.
    NoHyStart,
    /// SYNs beyond the limit displace half-open connections.
    NoCookies,
    /// Every cookie is good.
    NoCookieCheck,
    /// An ACK whose place in the queue comes before its time is forgotten.
    NoBelatedAck,
    /// An ACK that the queue of delayed ACKs refuses is forgotten.
    NoRefusedAck,
    /// A segment that continues an old one is not recognised by its timestamp.
    NoPredictedTimestamp,
    /// A segment that continues another one is taken although its connection was closed.
    NoPredictedState,
    /// A segment continues the last one whatever its header says.
    NoPredictedHeader,
    /// The checksum of a segment that continues another one is not verified.
    NoPredictedChecksum,
    /// A segment that continues another one is not acknowledged.
    NoPredictedAck,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 35] = [
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
        Mutation::NoHyStart,
        Mutation::NoCookies,
        Mutation::NoCookieCheck,
        Mutation::NoBelatedAck,
        Mutation::NoRefusedAck,
        Mutation::NoPredictedTimestamp,
        Mutation::NoPredictedState,
        Mutation::NoPredictedHeader,
        Mutation::NoPredictedChecksum,
        Mutation::NoPredictedAck,
    ];
}

/// Defines `is_on`, which says whether a mechanism is taken away: never, unless the crate that uses
/// the macro has the feature `mutations`. With it, `set` takes one away on the calling OS thread, or
/// puts all back.
#[doc(hidden)]
#[macro_export]
macro_rules! mutation_switch {
    ($mutation:ident) => {
        /// Returns whether a mechanism is taken away.
        #[cfg(not(feature = "mutations"))]
        #[inline(always)]
        pub const fn is_on(_: $mutation) -> bool {
            false
        }

        #[cfg(feature = "mutations")]
        pub use switch::{is_on, set};

        #[cfg(feature = "mutations")]
        mod switch {
            use std::cell::Cell;

            use super::$mutation;

            thread_local! {
                static ON: Cell<Option<$mutation>> = const { Cell::new(None) };
            }

            /// Returns whether a mechanism is taken away on this OS thread.
            pub fn is_on(mutation: $mutation) -> bool {
                ON.get() == Some(mutation)
            }

            /// Takes a mechanism away on this OS thread, or puts all back if `mutation` is `None`.
            pub fn set(mutation: Option<$mutation>) {
                ON.set(mutation);
            }
        }
    };
}

mutation_switch!(Mutation);
