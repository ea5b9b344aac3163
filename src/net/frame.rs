//! A frame to be sent.

use dst_tcp::{Outgoing, Payload, Pieces};
use smoltcp::wire::{EthernetAddress as MacAddress, IpProtocol};

use crate::config::Offloads;
use crate::ethernet::{Writer, ethertype};
use crate::ip::{self, HOP_LIMIT};

/// A frame to be sent: whole, or headers and references to the user's buffers.
#[derive(Debug)]
pub struct Frame<'a, B>(pub(crate) Body<'a, B>);

#[derive(Debug)]
pub(crate) enum Body<'a, B> {
    Whole(&'a [u8]),
    Segment(Segment<'a, B>),
}

/// The lengths of a TCP segment's headers, for ports that complete or cut it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Ethernet, with the VLAN tag.
    pub link: usize,
    /// IP, of this version.
    pub network: usize,
    /// Whether it is IPv4.
    pub is_ipv4: bool,
    /// TCP.
    pub transport: usize,
    /// What a payload that is longer has to be cut to.
    pub mss: usize,
}

impl<'a, B> Frame<'a, B> {
    /// Returns the headers' lengths of a TCP segment. `None`: the frame is complete, whatever the
    /// port could do.
    pub fn headers(&self) -> Option<Headers> {
        match &self.0 {
            Body::Whole(_) => None,
            Body::Segment(segment) => Some(segment.headers()),
        }
    }

    /// Returns how many bytes [`Frame::write_header`] writes.
    pub fn header_len(&self) -> usize {
        match &self.0 {
            Body::Whole(bytes) => bytes.len(),
            Body::Segment(segment) => segment.header_len(),
        }
    }

    /// Returns the parts of the payload that follow the header; none if all is in the header.
    pub fn payload(&self) -> Option<Pieces<'a, B>> {
        match &self.0 {
            Body::Whole(_) => None,
            Body::Segment(segment) => Some(segment.outgoing.payload.clone()),
        }
    }

    /// Returns the length of the frame, without Ethernet's padding and check sequence.
    pub fn frame_len(&self) -> usize {
        match &self.0 {
            Body::Whole(bytes) => bytes.len(),
            Body::Segment(segment) => segment.frame_len(),
        }
    }

    /// Writes everything before [`Frame::payload`]. The checksum of TCP gets the sum of the pseudo
    /// header, so the port has to complete it.
    pub fn write_header(&self, buffer: &mut [u8]) {
        match &self.0 {
            Body::Whole(bytes) => buffer[..bytes.len()].copy_from_slice(bytes),
            Body::Segment(segment) => segment.write_header(buffer),
        }
    }
}

impl<B: Payload + AsRef<[u8]>> Frame<'_, B> {
    /// Writes the whole frame; the port does what [`Offloads`] says. Returns its length.
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
}

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

    fn header_len(&self) -> usize {
        let headers = self.headers();
        headers.link + headers.network + headers.transport
    }

    pub fn frame_len(&self) -> usize {
        self.header_len() + self.outgoing.payload_len
    }

    /// Writes the headers of Ethernet and IP. Returns what follows them.
    fn write_outer<'b>(&self, buffer: &'b mut [u8]) -> &'b mut [u8] {
        let (source, destination) = (self.outgoing.local.ip(), self.outgoing.remote.ip());
        let rest = self.writer.write(buffer, self.mac, ethertype(source));
        let payload_len = self.outgoing.header_len() + self.outgoing.payload_len;
        let protocol = IpProtocol::Tcp;
        let header = ip::Header { source, destination, protocol, hop_limit: HOP_LIMIT, payload_len };
        header.write(rest, !self.offloads.ipv4_checksum)
    }

    fn write_header(&self, buffer: &mut [u8]) {
        let length = self.outgoing.header_len();
        let rest = self.write_outer(buffer);
        self.outgoing.write_header(&mut rest[..length]);
    }
}

impl<B: Payload + AsRef<[u8]>> Segment<'_, B> {
    /// Writes the frame; the port completes TCP's checksum.
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
        let rest = self.write_outer(buffer);
        self.outgoing.write(rest);
    }
}
