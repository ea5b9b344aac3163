//! Frames to be sent.

use dst_tcp::{MAX_HEADER, Outgoing, Payload, Pieces};
use smoltcp::wire::{EthernetAddress as MacAddress, IpProtocol};

use crate::config::Offloads;
use crate::ethernet::{Writer, ethertype};
use crate::ip::{self, HOP_LIMIT};

/// The length of the longest headers of a segment: Ethernet's with a tag, IPv6's and TCP's, in
/// bytes.
pub(crate) const MAX_HEADERS: usize = 18 + 40 + MAX_HEADER;

/// A frame to be sent: whole, or headers with references to the user's buffers.
#[derive(Debug)]
pub struct Frame<'a, B>(pub(crate) Body<'a, B>);

#[derive(Debug)]
pub(crate) enum Body<'a, B> {
    Whole(&'a [u8]),
    Segment(Segment<'a, B>),
}

/// The lengths of a TCP segment's headers in bytes, for ports that complete the segment or cut it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// The Ethernet header, with the VLAN tag.
    pub link: usize,
    /// The IP header.
    pub network: usize,
    /// Whether the IP header is IPv4's.
    pub is_ipv4: bool,
    /// The TCP header, with its options.
    pub transport: usize,
    /// The maximum length of a segment's payload. The port cuts a longer payload into segments of
    /// this length.
    pub mss: usize,
}

impl<'a, B> Frame<'a, B> {
    /// Returns the lengths of a TCP segment's headers, or `None` if the frame is complete and the
    /// port has nothing to do.
    pub fn headers(&self) -> Option<Headers> {
        match &self.0 {
            Body::Whole(_) => None,
            Body::Segment(segment) => Some(segment.headers()),
        }
    }

    /// Returns the number of bytes that [`Frame::write_header`] writes.
    pub fn header_len(&self) -> usize {
        match &self.0 {
            Body::Whole(bytes) => bytes.len(),
            Body::Segment(segment) => segment.header_len(),
        }
    }

    /// Returns the parts of the payload that follow the header, or `None` if the header contains
    /// the whole frame.
    pub fn payload(&self) -> Option<Pieces<'a, B>> {
        match &self.0 {
            Body::Whole(_) => None,
            Body::Segment(segment) => Some(segment.outgoing.payload.clone()),
        }
    }

    /// Returns the length of the frame in bytes, without Ethernet's padding and check sequence.
    pub fn frame_len(&self) -> usize {
        match &self.0 {
            Body::Whole(bytes) => bytes.len(),
            Body::Segment(segment) => segment.frame_len(),
        }
    }

    /// Writes everything before [`Frame::payload`]. The checksum of a TCP segment is only the sum
    /// of the pseudo header; the port has to complete it.
    pub fn write_header(&self, buffer: &mut [u8]) {
        match &self.0 {
            Body::Whole(bytes) => buffer[..bytes.len()].copy_from_slice(bytes),
            Body::Segment(segment) => segment.write_header(buffer),
        }
    }
}

impl<B: Payload + AsRef<[u8]>> Frame<'_, B> {
    /// Writes the whole frame, except for what the port does itself ([`Offloads`]). Returns the
    /// frame's length.
    pub fn write(&self, buffer: &mut [u8]) -> usize {
        match &self.0 {
            Body::Whole(bytes) => buffer[..bytes.len()].copy_from_slice(bytes),
            Body::Segment(segment) if segment.offloads.tcp_checksum => segment.copy(buffer),
            Body::Segment(segment) => segment.complete(buffer),
        }
        self.frame_len()
    }
}

/// A TCP segment in a frame.
#[derive(Debug)]
pub(crate) struct Segment<'a, B> {
    pub writer: Writer,
    pub mac: MacAddress,
    pub offloads: Offloads,
    pub outgoing: &'a Outgoing<'a, B>,
    /// The headers, except for TCP's sequence number, if they were written for another part of the
    /// same segment.
    pub headers: Option<&'a [u8]>,
}

// Derived ones would ask for `B` to be.
impl<B> Clone for Segment<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Segment<'_, B> {}

impl<B> Segment<'_, B> {
    fn headers(&self) -> Headers {
        let local = self.outgoing.local.ip();
        Headers {
            link: self.writer.len(),
            network: ip::header_len(local),
            is_ipv4: local.is_ipv4(),
            transport: self.outgoing.header_len(),
            mss: self.outgoing.mss,
        }
    }

    pub fn header_len(&self) -> usize {
        if let Some(written) = self.headers {
            return written.len();
        }
        let headers = self.headers();
        headers.link + headers.network + headers.transport
    }

    pub fn frame_len(&self) -> usize {
        self.header_len() + self.outgoing.payload_len
    }

    /// Writes the headers of Ethernet and IP. Returns the rest of the buffer.
    fn write_outer<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        let (source, destination) = (self.outgoing.local.ip(), self.outgoing.remote.ip());
        let rest = self.writer.write(buffer, self.mac, ethertype(source));
        let payload_len = self.outgoing.header_len() + self.outgoing.payload_len;
        let protocol = IpProtocol::Tcp;
        let header = ip::Header { source, destination, protocol, hop_limit: HOP_LIMIT, payload_len };
        header.write(rest, !self.offloads.ipv4_checksum)
    }

    /// Writes all headers. TCP's checksum is only the sum of the pseudo header.
    pub fn write_header(&self, buffer: &mut [u8]) {
        if let Some(written) = self.headers {
            let at = self.writer.len() + ip::header_len(self.outgoing.local.ip());
            buffer[..written.len()].copy_from_slice(written);
            self.outgoing.write_sequence_number(&mut buffer[at..]);
            return;
        }
        let length = self.outgoing.header_len();
        let rest = self.write_outer(buffer);
        self.outgoing.write_header(&mut rest[..length]);
    }
}

impl<B: Payload + AsRef<[u8]>> Segment<'_, B> {
    /// Writes the frame. The port completes TCP's checksum.
    fn copy(&self, buffer: &mut [u8]) {
        let mut at = self.header_len();
        self.write_header(buffer);
        for (piece, range) in self.outgoing.payload.clone() {
            let bytes = &piece.as_ref()[range];
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        }
    }

    /// Writes the frame with TCP's checksum.
    pub fn complete(&self, buffer: &mut [u8]) {
        let (outer, all) = (self.writer.len() + ip::header_len(self.outgoing.local.ip()), self.header_len());
        self.write_header(&mut buffer[..all]);
        self.outgoing.complete(&mut buffer[outer..], all - outer);
    }
}
