//! What comes in: small frames many at a time through one buffer, large data straight to its place.

use dst_session::Violation;
use dst_session::deframer::{Deframer, Piece};
use dst_wire::Header;
use spdk::iov::IovMut;

use crate::{Broken, Stream};

/// Bytes of a receive buffer. 256 KiB is about 60 answers of 4 KiB a system call.
pub const RECEIVE_BUFFER: usize = if cfg!(feature = "simulator") { 8 << 10 } else { 256 << 10 };

/// From how many bytes of data on a frame is large: the data is received straight to its place. Below, one more
/// system call costs more than the copy (16 KiB, depth 32: 204 thousand writes a second so, 258 copied).
const DIRECT_MIN: usize = if cfg!(feature = "simulator") { 4 << 10 } else { 32 << 10 };

/// Bytes received behind direct data, or after a large frame: enough for the next headers, little enough
/// that hardly any of the next large frame has to be copied.
const AFTER_LARGE: usize = 512;

/// Most system calls in one [`Receiver::pump`], so that one connection can't keep a reactor for itself.
const ROUNDS: usize = 8;

/// What to do after a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the frame's data.
    Go,
    /// There is no place for it now: show the header again later.
    Stall,
}

/// Who takes the frames of a connection.
pub trait Frames {
    /// A frame begins.
    ///
    /// # Errors
    /// What the peer may not send: the connection is over.
    fn header(&mut self, header: &Header) -> Result<Flow, Violation>;

    /// The next bytes of its data.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation>;

    /// Adds the place of the rest of its data to `iov`; gives how many bytes were added. 0: the data has
    /// to come through [`Frames::data`].
    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize;

    /// So many bytes were received straight to that place.
    fn placed(&mut self, len: usize);

    /// The frame is complete.
    ///
    /// # Errors
    /// What the peer may not send: the connection is over.
    fn end(&mut self) -> Result<(), Violation>;
}

/// What a call of [`Receiver::pump`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes that came in.
    pub received: usize,
    /// A frame could not be taken: call again when there is room. The buffer holds unread bytes.
    pub stalled: bool,
}

/// One connection's place in its incoming stream.
///
/// The buffer is the caller's, and only needed until the next call while [`Receiver::holds_bytes`].
#[derive(Debug, Default)]
pub struct Receiver {
    deframer: Deframer,
    stalled: Option<Header>,
    /// The buffer's unread bytes.
    unread: std::ops::Range<usize>,
    /// Whether the frame that has begun, or the last one, is large.
    is_large: bool,
}

impl Receiver {
    /// At the start of a stream.
    pub fn new() -> Receiver {
        Receiver::default()
    }

    /// Whether the buffer has bytes that were not looked at yet.
    pub fn holds_bytes(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether a frame has begun, or bytes that were received wait to be looked at.
    pub fn is_mid_stream(&self) -> bool {
        self.holds_bytes() || self.deframer.is_mid_frame()
    }

    /// Receives what is there and hands it to `frames`, until the socket is drained, a frame can't be
    /// taken, or it has been long enough.
    ///
    /// # Errors
    /// The connection is over.
    pub fn pump(
        &mut self,
        stream: &mut Stream,
        buf: &mut [u8],
        frames: &mut impl Frames,
    ) -> Result<Pumped, Broken> {
        let mut received = 0;
        stream.begin_turn(ROUNDS);
        for round in 0.. {
            if !self.parse(buf, frames)? {
                return Ok(Pumped { received, stalled: true });
            }
            // What the stream holds, the socket tells nobody of any more.
            if round >= ROUNDS && !stream.holds_bytes() {
                break;
            }
            let (got, wanted) = self.receive(stream, buf, frames)?;
            received += got;
            if got < wanted {
                break;
            }
        }
        let stalled = !self.parse(buf, frames)?;
        Ok(Pumped { received, stalled })
    }

    /// One system call. Gives the bytes that came and the bytes that there was room for.
    fn receive(
        &mut self,
        stream: &mut Stream,
        buf: &mut [u8],
        frames: &mut impl Frames,
    ) -> Result<(usize, usize), Broken> {
        let limit = if self.is_large { AFTER_LARGE.min(buf.len()) } else { buf.len() };
        let mut direct = 0;
        let mut wanted = limit;
        let got = if self.is_large && self.deframer.data_left() > 0 {
            let mut iov = IovMut::new();
            direct = frames.place(&mut iov);
            if direct > 0 && !iov.is_full() {
                // Bytes of the next frame may only follow when this one's rest fits entirely.
                wanted = direct;
                if direct == self.deframer.data_left() {
                    let tail = AFTER_LARGE.min(buf.len());
                    iov.push(&mut buf[..tail]);
                    wanted += tail;
                }
            } else if direct > 0 {
                wanted = direct;
            } else {
                // Nobody wants it: the more at once, the better.
                wanted = buf.len();
                iov.push(buf);
            }
            stream.readv(&mut iov)
        } else {
            stream.recv(&mut buf[..limit])
        };
        let got = match got? {
            None => return Ok((0, wanted)),
            Some(0) => return Err(Broken::Closed),
            Some(got) => got,
        };
        let placed = got.min(direct);
        if placed > 0 {
            frames.placed(placed);
            self.deframer.data_received(placed);
            if self.deframer.data_left() == 0 {
                frames.end()?;
            }
        }
        self.unread = 0..got - placed;
        Ok((got, wanted))
    }

    /// Hands over what is in the buffer. `false`: a frame could not be taken.
    fn parse(&mut self, buf: &[u8], frames: &mut impl Frames) -> Result<bool, Broken> {
        let result = self.parse_unread(buf, frames);
        if self.unread.is_empty() {
            // The next call may come with another buffer, and a shorter one.
            self.unread = 0..0;
        }
        result
    }

    fn parse_unread(&mut self, buf: &[u8], frames: &mut impl Frames) -> Result<bool, Broken> {
        if let Some(header) = self.stalled {
            if frames.header(&header)? == Flow::Stall {
                return Ok(false);
            }
            self.stalled = None;
            if header.data_len == 0 {
                frames.end()?;
            }
        }
        let filled = &buf[..self.unread.end];
        let mut pos = self.unread.start;
        loop {
            let piece = self.deframer.next(filled, &mut pos)?;
            self.unread.start = pos;
            match piece {
                None => return Ok(true),
                Some(Piece::Header(header)) => {
                    self.is_large = header.data_len as usize >= DIRECT_MIN;
                    if frames.header(&header)? == Flow::Stall {
                        self.stalled = Some(header);
                        return Ok(false);
                    }
                    if header.data_len == 0 {
                        frames.end()?;
                    }
                }
                Some(Piece::Data(range)) => {
                    frames.data(&filled[range])?;
                    if self.deframer.data_left() == 0 {
                        frames.end()?;
                    }
                }
            }
        }
    }
}
