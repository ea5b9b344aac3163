//! Filters that lose given packets, for tests that state the consequences.

use smoltcp::wire::TcpPacket;
use world::rng::Rng;

use crate::network::{Filter, Packet};

/// Returns the length of a packet's data.
pub fn data(packet: &Packet) -> usize {
    TcpPacket::new_checked(&packet.bytes[..]).map_or(0, |tcp| tcp.payload().len())
}

/// Loses segments with data from the first host: the nth of them, counted from 1, is lost if `lost`
/// contains n.
pub fn nth(lost: &[u64]) -> Filter {
    let (lost, mut count) = (lost.to_vec(), 0);
    Box::new(move |from, _, packet| {
        if from != 0 || data(packet) == 0 {
            return false;
        }
        count += 1;
        lost.contains(&count)
    })
}

/// Loses `per_million` of a million packets, in both directions, at random.
pub fn random(seed: u64, per_million: u64) -> Filter {
    let mut rng = Rng::new(seed);
    Box::new(move |_, _, _| rng.below(1_000_000) < per_million)
}
