//! Segments as they come in and as they go out. The layouts are smoltcp's.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use crate::checksum::Sum;
use crate::send_queue::Pieces;

/// The longest TCP header: its length field counts up to 15 words of 4 bytes.
pub const MAX_HEADER: usize = 60;

/// The offset of the options in a header (RFC 9293, 3.1).
const OPTIONS: usize = 20;

/// The length of a header whose only option is the timestamp (RFC 7323, 3.2), with padding.
const PLAIN: usize = 32;

/// Flags in a header (RFC 9293, 3.1).
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Why received bytes are no segment for this stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Lengths, options, ports or flags that contradict each other.
    Header,
    /// The checksum does not match.
    Checksum,
}

/// A received segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub seq: u32,
    pub ack: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// As written: not yet scaled.
    pub window: u16,
    pub mss: Option<u16>,
    pub window_shift: Option<u8>,
    pub sack_permitted: bool,
    pub sack: [Option<(u32, u32)>; 3],
    /// The sender's clock, and the newest of ours that it has seen.
    pub timestamp: Option<(u32, u32)>,
    /// Where the data is in the frame.
    pub payload: Range<usize>,
}

impl Segment {
    /// Returns the segment in `frame[range]`, and its source and destination port.
    pub fn parse(
        frame: &[u8],
        range: Range<usize>,
        source: IpAddr,
        destination: IpAddr,
        verify_checksum: bool,
    ) -> Result<(Segment, u16, u16), Malformed> {
        let bytes = frame.get(range.clone()).ok_or(Malformed::Header)?;
        let packet = TcpPacket::new_checked(bytes).map_err(|_| Malformed::Header)?;
        // A fuzzer finds no right checksum, and would get no further.
        if verify_checksum && !cfg!(fuzzing) {
            let mut sum = Sum::pseudo_header(source, destination, bytes.len());
            sum.add(bytes);
            if sum.folded() != u16::MAX {
                return Err(Malformed::Checksum);
            }
        }
        let (syn, fin, rst) = (packet.syn(), packet.fin(), packet.rst());
        if packet.src_port() == 0 || packet.dst_port() == 0 || (syn && (fin || rst)) || (fin && rst) {
            return Err(Malformed::Header);
        }
        let mut segment = Segment {
            seq: packet.seq_number().0.cast_unsigned(),
            ack: packet.ack().then(|| packet.ack_number().0.cast_unsigned()),
            syn,
            fin,
            rst,
            window: packet.window_len(),
            mss: None,
            window_shift: None,
            sack_permitted: false,
            sack: [None; 3],
            timestamp: None,
            payload: range.start + packet.header_len() as usize..range.end,
        };
        match bytes.get(OPTIONS..usize::from(packet.header_len())) {
            // The only option of most segments, with padding as kernels place it, and as smoltcp does.
            Some(&[1, 1, 8, 10, a, b, c, d, e, f, g, h] | &[8, 10, a, b, c, d, e, f, g, h, 0, _]) => {
                segment.timestamp =
                    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])));
            }
            _ => {
                let options = packet.options_summary().map_err(|_| Malformed::Header)?;
                segment.mss = options.max_segment_size;
                // RFC 7323, 2.3: a larger one counts as 14.
                segment.window_shift = options.window_scale.map(|shift| shift.min(14));
                segment.sack_permitted = options.sack_permitted;
                segment.sack = options.sack_ranges;
                segment.timestamp = options.timestamp;
            }
        }
        Ok((segment, packet.src_port(), packet.dst_port()))
    }

    /// Returns how much of the sequence space the segment takes up.
    pub fn sequence_len(&self) -> u64 {
        self.payload.len() as u64 + u64::from(self.syn) + u64::from(self.fin)
    }
}

/// The header of a segment to be sent, without its checksum.
pub(crate) type Header = TcpRepr<'static>;

/// Returns a header that says nothing yet but where it is from and where it goes.
pub(crate) fn header(local: SocketAddr, remote: SocketAddr, seq: u32) -> Header {
    TcpRepr {
        src_port: local.port(),
        dst_port: remote.port(),
        control: TcpControl::None,
        seq_number: TcpSeqNumber(seq.cast_signed()),
        ack_number: None,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// Returns an acknowledgement number as a header has it.
pub(crate) fn ack_number(wire: u32) -> Option<TcpSeqNumber> {
    Some(TcpSeqNumber(wire.cast_signed()))
}

/// Returns a timestamp option.
pub(crate) fn timestamp(value: u32, echo: u32) -> Option<TcpTimestampRepr> {
    Some(TcpTimestampRepr::new(value, echo))
}

/// A segment to be sent: its header, and references to the caller's buffers that its payload is in.
#[derive(Debug)]
pub struct Outgoing<'a, B> {
    /// The source.
    pub local: SocketAddr,
    /// The destination.
    pub remote: SocketAddr,
    /// The header.
    pub(crate) header: Header,
    /// The payload's parts in order.
    pub payload: Pieces<'a, B>,
    /// The payload's length in bytes.
    pub payload_len: usize,
    /// What a payload longer than this has to be cut to, by the port (TSO) or by
    /// [`Outgoing::cut`].
    pub mss: usize,
}

// A derived one would ask for `B` to be.
impl<B> Clone for Outgoing<'_, B> {
    fn clone(&self) -> Self {
        Outgoing { payload: self.payload.clone(), ..*self }
    }
}

impl<'a, B> Outgoing<'a, B> {
    /// Calls `part` with each of the segments of at most the MSS that this one is cut into, and with
    /// whether it is the last one. Their headers differ in the sequence number, and the last one has
    /// the flags.
    pub fn cut(&self, mut part: impl FnMut(&Outgoing<'a, B>, bool)) {
        let (mut next, mut rest, mut left) = (self.clone(), self.payload.clone(), self.payload_len);
        next.header.control = TcpControl::None;
        while left > self.mss {
            (next.payload, next.payload_len) = (rest.split_off_front(self.mss as u64), self.mss);
            part(&next, false);
            next.header.seq_number += self.mss;
            left -= self.mss;
        }
        (next.payload, next.payload_len, next.header.control) = (rest, left, self.header.control);
        part(&next, true);
    }

    /// Returns whether the segment is a reset or answers a SYN: it may be for an address that
    /// somebody has invented.
    pub fn answers_stranger(&self) -> bool {
        let answers_syn = self.header.control == TcpControl::Syn && self.header.ack_number.is_some();
        answers_syn || self.header.control == TcpControl::Rst
    }

    /// Writes the sequence number into a header: all in which the headers of the parts of a segment
    /// differ, but for the last one's.
    pub fn write_sequence_number(&self, header: &mut [u8]) {
        TcpPacket::new_unchecked(header).set_seq_number(self.header.seq_number);
    }

    /// Returns the length of the header, at most [`MAX_HEADER`].
    pub fn header_len(&self) -> usize {
        self.header.header_len()
    }

    /// Writes the header. The checksum field gets the sum of the pseudo header, to which a port
    /// with checksum offload adds the rest.
    pub fn write_header(&self, buffer: &mut [u8]) {
        let length = self.header_len() + self.payload_len;
        let sum = Sum::pseudo_header(self.local.ip(), self.remote.ip(), length).folded();
        if let (Some(header), Some(buffer)) = (self.plain_header(sum), buffer.first_chunk_mut()) {
            *buffer = header;
            return;
        }
        let mut packet = TcpPacket::new_unchecked(buffer);
        let (local, remote) = (self.local.ip().into(), self.remote.ip().into());
        self.header.emit(&mut packet, &local, &remote, &ChecksumCapabilities::ignored());
        packet.set_checksum(sum);
    }

    /// Returns the header, as smoltcp writes it, if it is one of most segments: with an ACK, and the
    /// timestamp as its only option.
    fn plain_header(&self, sum: u16) -> Option<[u8; PLAIN]> {
        let TcpRepr { seq_number, ack_number: Some(ack), timestamp: Some(timestamp), .. } = &self.header
        else {
            return None;
        };
        let flags = match self.header.control {
            TcpControl::None => ACK,
            TcpControl::Psh => ACK | PSH,
            TcpControl::Syn | TcpControl::Fin | TcpControl::Rst => return None,
        };
        if self.header.sack_ranges.iter().any(Option::is_some) {
            return None;
        }
        let mut header = [0; PLAIN];
        header[0..2].copy_from_slice(&self.header.src_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.header.dst_port.to_be_bytes());
        header[4..8].copy_from_slice(&seq_number.0.to_be_bytes());
        header[8..12].copy_from_slice(&ack.0.to_be_bytes());
        header[12..14].copy_from_slice(&[(PLAIN as u8 / 4) << 4, flags]);
        header[14..16].copy_from_slice(&self.header.window_len.to_be_bytes());
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        header[OPTIONS..OPTIONS + 2].copy_from_slice(&[8, 10]);
        header[22..26].copy_from_slice(&timestamp.tsval.to_be_bytes());
        header[26..30].copy_from_slice(&timestamp.tsecr.to_be_bytes());
        Some(header)
    }
}

impl<B: AsRef<[u8]>> Outgoing<'_, B> {
    /// Writes the whole segment, with its checksum. Returns its length.
    pub fn write(&self, buffer: &mut [u8]) -> usize {
        let at = self.header_len();
        self.write_header(&mut buffer[..at]);
        self.complete(buffer, at)
    }

    /// Writes the payload behind a header of `at` bytes that was written, and completes the
    /// checksum. Returns the length of the segment.
    pub fn complete(&self, buffer: &mut [u8], mut at: usize) -> usize {
        for (piece, range) in self.payload.clone() {
            let bytes = &piece.as_ref()[range];
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
        // The sum of the pseudo header is in the checksum's field.
        let mut sum = Sum::default();
        sum.add(&buffer[..at]);
        TcpPacket::new_unchecked(&mut buffer[..at]).set_checksum(!sum.folded());
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send_queue::SendQueue;
    use crate::seq::Seq;

    #[test]
    fn plain_headers_are_as_smoltcp_writes_them() {
        let (local, remote) = (SocketAddr::from(([10, 0, 0, 1], 4460)), SocketAddr::from(([10, 0, 0, 2], 5)));
        let (queue, at) = (SendQueue::<Vec<u8>>::new(Seq::initial(0)), Seq::initial(0));
        for control in [TcpControl::None, TcpControl::Psh] {
            let header = Header {
                ack_number: ack_number(0xfedc_ba98),
                window_len: 0x1234,
                timestamp: timestamp(0x8001_0203, 0x0405_0607),
                control,
                ..header(local, remote, 0x89ab_cdef)
            };
            let payload = queue.pieces(at, at);
            let outgoing = Outgoing { local, remote, header, payload, payload_len: 0, mss: 0 };
            let plain = outgoing.plain_header(0xabcd).expect("it is one of most");
            let mut bytes = [0xff; PLAIN];
            let mut packet = TcpPacket::new_unchecked(&mut bytes[..]);
            let (local, remote) = (local.ip().into(), remote.ip().into());
            header.emit(&mut packet, &local, &remote, &ChecksumCapabilities::ignored());
            packet.set_checksum(0xabcd);
            assert_eq!(plain, bytes);
            let sack_ranges = [Some((1, 2)), None, None];
            let other = Outgoing { header: Header { sack_ranges, ..header }, ..outgoing };
            assert_eq!(other.plain_header(0), None);
        }
    }
}
