//! Header prediction (after Van Jacobson): a segment whose header is that of the segment before, with
//! the next data, needs neither to be parsed nor to be looked up, and its ACK says nothing new. Most
//! segments are such ones if a peer sends more than one at a time.

use std::net::IpAddr;

use crate::connection::Predicted;
use crate::event::ConnectionId;
use crate::mutation::{Mutation, is_on};
use crate::segment::Segment;

/// The length of a header whose only option is the timestamp, in bytes. Others are not predicted.
pub(crate) const HEADER: usize = 32;

/// The header in words of 8 bytes, and of each the bits that do not change from a segment to the
/// next: not the sequence number, the flag PSH and the checksum.
type Words = [u64; 4];
const FIXED: [[u8; 8]; 4] = [
    [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    [0xff, 0xff, 0xff, 0xff, 0xff, !0x08, 0xff, 0xff],
    [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    [0xff; 8],
];

fn fixed(header: &[u8; HEADER]) -> Words {
    let (words, _) = header.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_ne_bytes(words[at]) & u64::from_ne_bytes(FIXED[at]))
}

/// The segment that was received last, if it belonged to a connection and may be continued.
#[derive(Debug)]
pub(crate) struct Last {
    pub id: ConnectionId,
    /// The source and the destination.
    addresses: (IpAddr, IpAddr),
    header: Words,
    ack: u32,
    window: u16,
    timestamp: u32,
}

impl Last {
    /// Returns what is needed to recognise the segments that continue one of a connection, or `None`
    /// if it is one that is not continued. `bytes` is the whole segment.
    pub fn new(
        id: ConnectionId,
        addresses: (IpAddr, IpAddr),
        bytes: &[u8],
        segment: &Segment,
    ) -> Option<Last> {
        let is_plain = !segment.syn && !segment.fin && !segment.rst;
        let has_only_timestamp = segment.payload.len() + HEADER == bytes.len();
        let (Some(ack), Some((timestamp, _))) = (segment.ack, segment.timestamp) else { return None };
        let header = fixed(bytes.first_chunk()?);
        let window = segment.window;
        (is_plain && has_only_timestamp).then_some(Last { id, addresses, header, ack, window, timestamp })
    }

    /// Returns what a segment says if its header is that of the last one, and if it has data.
    pub fn predict(&self, addresses: (IpAddr, IpAddr), bytes: &[u8]) -> Option<Predicted> {
        let header = bytes.first_chunk::<HEADER>()?;
        let differs = || fixed(header) != self.header && !is_on(Mutation::NoPredictedHeader);
        if bytes.len() == HEADER || differs() || addresses != self.addresses {
            return None;
        }
        let [_, _, _, _, a, b, c, d, ..] = *header;
        Some(Predicted {
            seq: u32::from_be_bytes([a, b, c, d]),
            ack: self.ack,
            window: self.window,
            timestamp: self.timestamp,
            length: (bytes.len() - HEADER) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever bit of a header is changed: it is predicted only if the bit may change.
    #[test]
    fn no_other_change_is_predicted() {
        let addresses = (IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 1]));
        let mut known = [0; 100];
        known[..HEADER].copy_from_slice(&[
            1, 2, 3, 4, 0, 0, 0, 9, 0, 0, 0, 7, 0x80, 0x10, 5, 6, 0, 0, 0, 0, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6,
            7, 8,
        ]);
        let (segment, ..) =
            Segment::parse(&known, 0..100, addresses.0, addresses.1, false).expect("it is well-formed");
        let id = ConnectionId { index: 0, generation: 0 };
        let last = Last::new(id, addresses, &known, &segment).expect("it is a plain one");
        for (at, bit) in (0..HEADER).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = known;
            changed[at] ^= 1 << bit;
            let may_change = (4..8).contains(&at) || (16..18).contains(&at) || (at, bit) == (13, 3);
            let predicted = last.predict(addresses, &changed);
            assert_eq!(predicted.is_some(), may_change, "byte {at}, bit {bit}");
            if let Some(predicted) = predicted {
                let parsed = Segment::parse(&changed, 0..100, addresses.0, addresses.1, false);
                let (parsed, ..) = parsed.expect("it is well-formed");
                assert_eq!((predicted.seq, predicted.length), (parsed.seq, parsed.payload.len() as u64));
                assert_eq!((Some(predicted.ack), predicted.window), (parsed.ack, parsed.window));
                assert_eq!(Some(predicted.timestamp), parsed.timestamp.map(|(value, _)| value));
            }
        }
        assert!(last.predict((addresses.1, addresses.0), &known).is_none(), "it is from another host");
        assert!(last.predict(addresses, &known[..HEADER]).is_none(), "an ACK without data may repeat one");
    }
}
