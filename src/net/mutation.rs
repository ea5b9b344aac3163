//! Protections that the simulator can remove, one at a time, to see that it notices.
//!
//! Only the simulator builds with the feature `mutations`. Without it, [`is_on`] is the constant
//! `false`, and the code that users run has none of this.

/// The protection to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A neighbour is asked for only once.
    NoRetry,
    /// Frames do not wait for a neighbour's address.
    NoWaiting,
    /// The link-layer addresses of neighbours stay valid for ever.
    NoRefresh,
    /// A neighbour that does not answer is asked for ever.
    NoFailure,
    /// TCP is not told that a neighbour does not answer.
    NoWord,
    /// Addresses are used without checking whether another host has them.
    NoDuplicateDetection,
    /// Addresses are not defended.
    NoDefence,
    /// Answers without a question are believed.
    NoQuestionCheck,
    /// Announcements are learned from hosts that this one has nothing to do with.
    NoStrangerCheck,
    /// The number of neighbours that are asked for has no limit.
    NoResolvingLimit,
    /// Messages of neighbour discovery are accepted even if they were forwarded.
    NoHopLimitCheck,
    /// Fragments are taken for whole packets.
    NoFragmentCheck,
    /// The checksum of IPv4 is not verified.
    NoIpv4Checksum,
    /// A router's report that a packet was too long is not passed on to TCP.
    NoTooBig,
    /// ICMP errors about other hosts' packets are believed.
    NoQuoteCheck,
    /// All echo requests are answered.
    NoEchoLimit,
    /// The first route that matches is used, not the longest.
    NoLongestPrefix,
}

impl Mutation {
    /// All mutations.
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

dst_tcp::mutation_switch!(Mutation);
