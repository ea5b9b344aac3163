//! Header prediction (after Van Jacobson): a segment whose header is that of the segment before, with
//! the next data, needs neither to be parsed nor to be looked up, and its ACK says nothing new. Most
//! segments are such ones if a peer sends more than one at a time.

use crate::checksum::Sum;
use crate::connection::{Context, Predicted};
use crate::event::ConnectionId;
use crate::segment::Segment;
use crate::send_queue::Payload;

use super::{Datagram, Stack};

/// The length of a header whose only option is the timestamp, in bytes. Others are not predicted.
const HEADER: usize = 32;

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
pub(super) struct Last {
    id: ConnectionId,
    addresses: (std::net::IpAddr, std::net::IpAddr),
    header: Words,
    ack: u32,
    window: u16,
    timestamp: u32,
}

impl Last {
    /// Returns what is needed to recognise the segments that continue one of a connection, or `None`
    /// if it is one that is not continued.
    pub fn new<F: AsRef<[u8]>>(id: ConnectionId, datagram: &Datagram<F>, segment: &Segment) -> Option<Last> {
        let header = datagram.frame.as_ref().get(datagram.range.clone())?.first_chunk::<HEADER>()?;
        let is_plain = !segment.syn && !segment.fin && !segment.rst;
        let has_only_timestamp = segment.payload.start == datagram.range.start + HEADER;
        let (Some(ack), Some((timestamp, _))) = (segment.ack, segment.timestamp) else { return None };
        (is_plain && has_only_timestamp).then(|| Last {
            id,
            addresses: (datagram.source, datagram.destination),
            header: fixed(header),
            ack,
            window: segment.window,
            timestamp,
        })
    }
}

impl<F: AsRef<[u8]>, B: Payload> Stack<F, B> {
    /// Takes a segment if it continues the last one. Returns it if it does not, or if there is
    /// anything about it or its connection that takes more than to append the data.
    pub(super) fn receive_predicted(&mut self, datagram: Datagram<F>, now: u64) -> Result<(), Datagram<F>> {
        let Some(last) = &self.last else { return Err(datagram) };
        let Some(bytes) = datagram.frame.as_ref().get(datagram.range.clone()) else { return Err(datagram) };
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Err(datagram) };
        let is_next = bytes.len() > HEADER
            && fixed(header) == last.header
            && (datagram.source, datagram.destination) == last.addresses;
        if !is_next || !(datagram.is_verified || is_sum_right(&datagram, bytes)) {
            return Err(datagram);
        }
        let [_, _, _, _, a, b, c, d, ..] = *header;
        let predicted = Predicted {
            seq: u32::from_be_bytes([a, b, c, d]),
            ack: last.ack,
            window: last.window,
            timestamp: last.timestamp,
            length: (bytes.len() - HEADER) as u64,
        };
        let id = last.id;
        let Some(entry) = self.table.get_mut(id) else { return Err(datagram) };
        let mut cx = Context { now, config: &self.config, events: &mut self.events };
        if !entry.connection.is_predicted(&predicted) {
            return Err(datagram);
        }
        let payload = datagram.range.start + HEADER..datagram.range.end;
        entry.connection.input_predicted(&predicted, payload, datagram.frame, &mut cx);
        // Only an ACK can have become due, which a connection that is ready will send.
        if !entry.is_ready || !self.timers.has(id) {
            self.settle(id, now);
        }
        Ok(())
    }
}

fn is_sum_right<F>(datagram: &Datagram<F>, bytes: &[u8]) -> bool {
    let mut sum = Sum::pseudo_header(datagram.source, datagram.destination, bytes.len());
    sum.add(bytes);
    sum.folded() == u16::MAX
}
