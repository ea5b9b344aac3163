//! The counters of an interface.

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Lengths or fields contradict each other.
    Malformed,
    /// The frame has this interface's own link-layer address as its source.
    OwnFrame,
    /// The frame or the packet is for another host.
    NotForUs,
    /// The frame belongs to another VLAN.
    Vlan,
    /// The protocol or the type of message is not supported.
    Protocol,
    /// The checksum of IPv4, ICMP or ICMPv6 does not match. TCP counts its own.
    Checksum,
    /// The packet is a fragment.
    Fragment,
    /// The packet has a source route or an IPv6 extension header.
    Options,
    /// The source is not a host's address, or is this interface's.
    Source,
    /// Too many echo requests came in a second.
    EchoRate,
    /// Too many answers wait to be sent.
    AnswersFull,
    /// The ICMP error is not about a packet of this interface.
    Unrelated,
    /// The neighbour's message is not credible: it was forwarded, or is about a host that is not a
    /// neighbour.
    Untrusted,
    /// There is no route to the destination, or the source is not a usable address.
    NoRoute,
    /// Too many frames wait for neighbours' addresses.
    WaitingFull,
    /// Too many neighbours are known or asked for.
    NeighboursFull,
    /// The neighbour does not answer.
    NeighbourFailed,
    /// The frame is too long to wait for the neighbour's address.
    TooLong,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [DropReason; 18] = [
        DropReason::Malformed,
        DropReason::OwnFrame,
        DropReason::NotForUs,
        DropReason::Vlan,
        DropReason::Protocol,
        DropReason::Checksum,
        DropReason::Fragment,
        DropReason::Options,
        DropReason::Source,
        DropReason::EchoRate,
        DropReason::AnswersFull,
        DropReason::Unrelated,
        DropReason::Untrusted,
        DropReason::NoRoute,
        DropReason::WaitingFull,
        DropReason::NeighboursFull,
        DropReason::NeighbourFailed,
        DropReason::TooLong,
    ];

    /// Returns the name of the reason in answers of RPCs.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Malformed => "malformed",
            DropReason::OwnFrame => "own_frame",
            DropReason::NotForUs => "not_for_us",
            DropReason::Vlan => "vlan",
            DropReason::Protocol => "protocol",
            DropReason::Checksum => "checksum",
            DropReason::Fragment => "fragment",
            DropReason::Options => "options",
            DropReason::Source => "source",
            DropReason::EchoRate => "echo_rate",
            DropReason::AnswersFull => "answers_full",
            DropReason::Unrelated => "unrelated",
            DropReason::Untrusted => "untrusted",
            DropReason::NoRoute => "no_route",
            DropReason::WaitingFull => "waiting_full",
            DropReason::NeighboursFull => "neighbours_full",
            DropReason::NeighbourFailed => "neighbour_failed",
            DropReason::TooLong => "too_long",
        }
    }
}

/// The counters of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Bytes of the frames received.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes of the frames sent.
    pub sent_bytes: u64,
    /// Questions for a neighbour's address that were sent.
    pub asked: u64,
    /// Neighbours that did not answer.
    pub failed: u64,
    /// Messages of other hosts that claim one of this interface's addresses or ask whether it is
    /// free.
    pub conflicts: u64,
    /// ICMP errors that were passed on to TCP.
    pub icmp_errors: u64,
    drops: [u64; DropReason::ALL.len()],
}

impl Counters {
    /// Returns the number of frames that were dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_place() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
