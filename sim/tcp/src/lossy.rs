//! Exactly which packets are lost, for tests that say what must come of it.

use smoltcp::wire::TcpPacket;
use world::rng::Rng;

use crate::network::{Filter, Packet};

/// Returns how much data a packet has.
pub fn data(packet: &Packet) -> usize {
    TcpPacket::new_checked(&packet.bytes[..]).map_or(0, |tcp| tcp.payload().len())
}

/// Loses segments with data of the first host: the nth of them (from 1) is lost if it is listed.
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

/// Loses one segment of a million for each of `per_million`, in both directions.
pub fn random(seed: u64, per_million: u64) -> Filter {
    let mut rng = Rng::new(seed);
    Box::new(move |_, _, _| rng.below(1_000_000) < per_million)
}
