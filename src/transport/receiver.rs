//! Receiving: many small frames at a time through one buffer, large data straight to its
//! destination. Data that came whole may also stay in the buffer.

use std::ops::Range;

use dst_session::Violation;
use dst_session::deframer::{Deframer, Piece};
use dst_wire::Header;
use spdk::iov::IovMut;

use crate::{Broken, Stream};

/// The size of a receive buffer in bytes. 256 KiB hold about 60 answers of 4 KiB a system call.
pub const RECEIVE_BUFFER: usize = if cfg!(feature = "simulator") { 8 << 10 } else { 256 << 10 };

/// The size from which a frame's data is large, in bytes, and is received straight into its
/// destination. Below this, one more system call costs more than a copy (16 KiB, depth 32: 204
/// thousand writes a second without the copy, 258 with it).
const DIRECT_MIN: usize = if cfg!(feature = "simulator") { 4 << 10 } else { 32 << 10 };

/// How many bytes are received after direct data or a large frame: enough for the next headers, and
/// so few that hardly any of the next large frame has to be copied.
const AFTER_LARGE: usize = 512;

/// The maximum number of system calls in one [`Receiver::pump`], so that one connection cannot
/// monopolise a reactor.
const ROUNDS: usize = 8;

/// What to do after a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Continue with the frame's data.
    Go,
    /// There is no room for the frame now: pass the header again later.
    Stall,
    /// The frame's data stays where it was received, and the frame ends.
    Keep,
}

/// The memory that a connection receives through.
pub trait Buffer {
    /// Data that is received whole begins at multiples of this many bytes, if the length of all data
    /// is such a multiple. A power of two of at most 16.
    const ALIGNMENT: usize;

    /// Returns all of the memory to receive into, at least 512 bytes. It may be other memory than
    /// before.
    fn room(&mut self) -> &mut [u8];

    /// Returns all of the memory.
    fn bytes(&self) -> &[u8];
}

impl Buffer for [u8] {
    const ALIGNMENT: usize = 1;

    fn room(&mut self) -> &mut [u8] {
        self
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Where all of a frame's data was received.
pub struct Here<'a, B: ?Sized> {
    /// What the data was received through.
    pub buffer: &'a B,
    /// The range of the buffer.
    pub data: Range<usize>,
}

/// The consumer of a connection's frames.
pub trait Frames {
    /// What the frames are received through.
    type Buffer: Buffer + ?Sized;

    /// Begins a frame. `here`: its data, if it has any and all of it is there; only then the data
    /// can be kept.
    ///
    /// # Errors
    /// The peer violated the protocol, and the connection ends.
    fn header(&mut self, header: &Header, here: Option<Here<'_, Self::Buffer>>) -> Result<Flow, Violation>;

    /// Takes the next bytes of the frame's data.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation>;

    /// Adds the destination of the rest of the frame's data to `iov`, and returns its size in
    /// bytes. 0 means that the data has to come through [`Frames::data`].
    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize;

    /// Records that `len` bytes were received straight into that destination.
    fn received_in_place(&mut self, len: usize);

    /// Ends the frame, which is complete.
    ///
    /// # Errors
    /// The peer violated the protocol, and the connection ends.
    fn end(&mut self) -> Result<(), Violation>;
}

/// The result of [`Receiver::pump`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pumped {
    /// The number of bytes received.
    pub received: usize,
    /// Whether a frame could not be taken. Then the buffer holds unread bytes, and the caller calls
    /// again when there is room.
    pub stalled: bool,
}

/// The position in a connection's incoming stream.
///
/// The buffer belongs to the caller, who must keep its contents until the next call only while
/// [`Receiver::holds_bytes`].
#[derive(Debug, Default)]
pub struct Receiver {
    deframer: Deframer,
    stalled: Option<Header>,
    /// The range of the buffer's unread bytes.
    unread: Range<usize>,
    /// Whether the current frame, or else the last one, is large.
    is_large: bool,
}

impl Receiver {
    /// Creates a receiver at the start of a stream.
    pub fn new() -> Receiver {
        Receiver::default()
    }

    /// Returns whether the buffer has unread bytes.
    pub fn holds_bytes(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Returns whether a frame has begun and not ended, or the buffer has unread bytes.
    pub fn is_mid_stream(&self) -> bool {
        self.holds_bytes() || self.deframer.is_mid_frame()
    }

    /// Receives and passes everything to `frames`, until the socket is empty, a frame cannot be
    /// taken, or `ROUNDS` system calls were made.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn pump<F: Frames>(
        &mut self,
        stream: &mut Stream,
        buf: &mut F::Buffer,
        frames: &mut F,
    ) -> Result<Pumped, Broken> {
        let mut received = 0;
        stream.begin_turn(ROUNDS);
        for round in 0.. {
            if !self.parse(buf, frames)? {
                return Ok(Pumped { received, stalled: true });
            }
            // The socket does not report bytes again that the stream already holds.
            if round >= ROUNDS && !stream.holds_bytes() {
                break;
            }
            let (got, wanted) = self.receive(stream, buf.room(), frames)?;
            received += got;
            if got < wanted {
                break;
            }
        }
        let stalled = !self.parse(buf, frames)?;
        Ok(Pumped { received, stalled })
    }

    /// Makes one system call. Returns how many bytes came and for how many there was room.
    fn receive<F: Frames>(
        &mut self,
        stream: &mut Stream,
        buf: &mut [u8],
        frames: &mut F,
    ) -> Result<(usize, usize), Broken> {
        let limit = if self.is_large { AFTER_LARGE.min(buf.len()) } else { buf.len() };
        let mut direct = 0;
        let mut start = 0;
        let mut wanted = limit;
        let got = if self.is_large && self.deframer.data_left() > 0 {
            let mut iov = IovMut::new();
            direct = frames.place(&mut iov);
            if direct > 0 && !iov.is_full() {
                // Bytes of the next frame may follow only if all the rest of this one fits.
                wanted = direct;
                if direct == self.deframer.data_left() {
                    let tail = AFTER_LARGE.min(buf.len());
                    iov.push(&mut buf[..tail]);
                    wanted += tail;
                }
            } else if direct > 0 {
                wanted = direct;
            } else {
                // The data has no destination: skip as much at once as fits.
                wanted = buf.len();
                iov.push(buf);
            }
            stream.readv(&mut iov)
        } else {
            start = self.deframer.misalignment(F::Buffer::ALIGNMENT);
            wanted -= start;
            stream.recv(&mut buf[start..limit])
        };
        let got = match got? {
            None => return Ok((0, wanted)),
            Some(0) => return Err(Broken::Closed),
            Some(got) => got,
        };
        let placed = got.min(direct);
        if placed > 0 {
            frames.received_in_place(placed);
            self.deframer.data_received(placed);
            if self.deframer.data_left() == 0 {
                frames.end()?;
            }
        }
        self.unread = start..start + got - placed;
        Ok((got, wanted))
    }

    /// Passes the contents of the buffer on. Returns false if a frame could not be taken.
    fn parse<F: Frames>(&mut self, buf: &F::Buffer, frames: &mut F) -> Result<bool, Broken> {
        let result = self.parse_unread(buf, frames);
        if self.unread.is_empty() {
            // The next call may pass another, shorter buffer.
            self.unread = 0..0;
        }
        result
    }

    fn parse_unread<F: Frames>(&mut self, buf: &F::Buffer, frames: &mut F) -> Result<bool, Broken> {
        if let Some(header) = self.stalled
            && !self.begin(header, buf, frames)?
        {
            return Ok(false);
        }
        let filled = &buf.bytes()[..self.unread.end];
        loop {
            match self.deframer.next(filled, &mut self.unread.start)? {
                None => return Ok(true),
                Some(Piece::Header(header)) => {
                    self.is_large = header.data_len as usize >= DIRECT_MIN;
                    if !self.begin(header, buf, frames)? {
                        return Ok(false);
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

    /// Begins the frame whose data, if any, is at the beginning of the unread bytes. Returns false if
    /// the frame cannot be taken.
    fn begin<F: Frames>(&mut self, header: Header, buf: &F::Buffer, frames: &mut F) -> Result<bool, Broken> {
        let len = header.data_len as usize;
        let data = self.unread.start..self.unread.start + len;
        let is_here = len > 0 && data.end <= self.unread.end;
        let here = is_here.then_some(Here { buffer: buf, data });
        let flow = frames.header(&header, here)?;
        if flow == Flow::Stall {
            self.stalled = Some(header);
            return Ok(false);
        }
        self.stalled = None;
        if flow == Flow::Keep {
            assert!(is_here, "only data that is there can be kept");
            self.deframer.data_received(len);
            self.unread.start += len;
        }
        if self.deframer.data_left() == 0 {
            frames.end()?;
        }
        Ok(true)
    }
}
