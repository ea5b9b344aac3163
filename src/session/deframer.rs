//! Splits a byte stream into headers and runs of data.

use std::ops::Range;

use dst_wire::{HEADER_LEN, Header, WireError};

const _: () = assert!(HEADER_LEN.is_multiple_of(16), "see Deframer::misalignment");

/// The position in a stream: between two frames, in a header, or in data.
///
/// The caller receives bytes into any buffer and passes the buffer to [`Deframer::next`], which
/// splits it into pieces without copying data. If the end of the buffer cuts a header, the deframer
/// keeps the beginning until the rest comes. A buffer that was read to its end may therefore be
/// given to another connection.
///
/// Large data need not pass through the buffer: if [`Deframer::data_left`] is not zero, the caller
/// may receive that many bytes straight into their destination and report them with
/// [`Deframer::data_received`].
#[derive(Debug)]
pub struct Deframer {
    partial: [u8; HEADER_LEN],
    partial_len: usize,
    data_left: usize,
}

/// The next piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins. If it has data, the next pieces are that data.
    Header(Header),
    /// A run of the frame's data, as a range of the buffer.
    Data(Range<usize>),
}

impl Default for Deframer {
    fn default() -> Deframer {
        Deframer::new()
    }
}

impl Deframer {
    /// Creates a deframer at the start of a stream.
    pub const fn new() -> Deframer {
        Deframer { partial: [0; HEADER_LEN], partial_len: 0, data_left: 0 }
    }

    /// Returns how many bytes of the current frame's data are still to come.
    pub fn data_left(&self) -> usize {
        self.data_left
    }

    /// Returns whether a frame has begun and not ended.
    pub fn is_mid_frame(&self) -> bool {
        self.partial_len > 0 || self.data_left > 0
    }

    /// Returns how many bytes behind a multiple of `alignment`, a power of two of at most 16, the next
    /// bytes must be received so that all data that begins there is aligned, as long as the length of
    /// data is a multiple, as the length of headers is.
    pub fn misalignment(&self, alignment: usize) -> usize {
        // In data, what is left of it counts; in a header, what is there.
        self.partial_len.wrapping_sub(self.data_left) & (alignment - 1)
    }

    /// Records that the caller received `len` bytes of the current frame's data elsewhere.
    ///
    /// # Panics
    /// If less data of the frame is still to come.
    pub fn data_received(&mut self, len: usize) {
        assert!(
            len <= self.data_left,
            "{len} bytes of data received, but the frame has {} left",
            self.data_left
        );
        self.data_left -= len;
    }

    /// Returns the piece at `*pos` in `buf` and moves `*pos` past it. Returns `None` at the end of
    /// the buffer.
    ///
    /// # Errors
    /// The header is invalid; the stream is unusable from here on.
    pub fn next(&mut self, buf: &[u8], pos: &mut usize) -> Result<Option<Piece>, WireError> {
        let rest = &buf[*pos..];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.data_left > 0 {
            let len = rest.len().min(self.data_left);
            let range = *pos..*pos + len;
            *pos += len;
            self.data_left -= len;
            return Ok(Some(Piece::Data(range)));
        }
        let header = if self.partial_len == 0
            && let Some(bytes) = rest.first_chunk()
        {
            *pos += HEADER_LEN;
            Header::decode(bytes)?
        } else {
            let len = rest.len().min(HEADER_LEN - self.partial_len);
            self.partial[self.partial_len..self.partial_len + len].copy_from_slice(&rest[..len]);
            self.partial_len += len;
            *pos += len;
            if self.partial_len < HEADER_LEN {
                return Ok(None);
            }
            self.partial_len = 0;
            Header::decode(&self.partial)?
        };
        self.data_left = header.data_len as usize;
        Ok(Some(Piece::Header(header)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dst_wire::Kind;
    use proptest::prelude::*;

    fn frame(id: u64, data: &[u8]) -> Vec<u8> {
        let mut header = Header::new(Kind::Request);
        header.id = id;
        header.data_len = data.len() as u32;
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(data);
        bytes
    }

    /// Feeds `stream` in pieces of the given sizes, repeating the last size. Returns ids and data.
    fn read(stream: &[u8], sizes: &[usize]) -> Vec<(u64, Vec<u8>)> {
        let mut deframer = Deframer::new();
        let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
        let (mut from, mut turn) = (0, 0);
        while from < stream.len() {
            let size = sizes[turn.min(sizes.len() - 1)].max(1);
            turn += 1;
            let buf = &stream[from..(from + size).min(stream.len())];
            from += buf.len();
            let mut pos = 0;
            while let Some(piece) = deframer.next(buf, &mut pos).expect("the stream is well formed") {
                match piece {
                    Piece::Header(header) => frames.push((header.id, Vec::new())),
                    Piece::Data(range) => frames.last_mut().unwrap().1.extend_from_slice(&buf[range]),
                }
            }
            assert_eq!(pos, buf.len());
        }
        frames
    }

    proptest! {
        #[test]
        fn the_same_frames_however_the_stream_is_cut(
            data in proptest::collection::vec(any::<Vec<u8>>(), 1..8),
            sizes in proptest::collection::vec(1usize..200, 1..20),
        ) {
            let frames: Vec<_> = data.into_iter().enumerate().map(|(i, data)| (i as u64, data)).collect();
            let stream: Vec<u8> = frames.iter().flat_map(|(id, data)| frame(*id, data)).collect();
            prop_assert_eq!(read(&stream, &sizes), frames);
        }
    }

    #[test]
    fn data_may_be_received_elsewhere() {
        let mut stream = frame(1, &[7; 100]);
        stream.extend(frame(2, &[]));
        let mut deframer = Deframer::new();
        let mut pos = 0;
        assert!(matches!(deframer.next(&stream[..HEADER_LEN], &mut pos), Ok(Some(Piece::Header(_)))));
        assert_eq!(deframer.data_left(), 100);
        deframer.data_received(100);
        pos = HEADER_LEN + 100;
        let Ok(Some(Piece::Header(header))) = deframer.next(&stream, &mut pos) else { panic!() };
        assert_eq!(header.id, 2);
    }

    #[test]
    fn data_is_aligned_wherever_the_stream_was_cut() {
        const ALIGNMENT: usize = 16;
        let stream: Vec<u8> = (1..4).flat_map(|id| frame(id, &[7; 512])).collect();
        for cut in 0..stream.len() {
            let (mut deframer, mut pos) = (Deframer::new(), 0);
            while deframer.next(&stream[..cut], &mut pos).expect("the stream is well formed").is_some() {}
            let offset = deframer.misalignment(ALIGNMENT);
            assert!(offset < ALIGNMENT);
            let mut buf = vec![0; offset];
            buf.extend_from_slice(&stream[cut..]);
            pos = offset;
            let mut is_whole = false;
            while let Some(piece) = deframer.next(&buf, &mut pos).expect("the stream is well formed") {
                match piece {
                    Piece::Header(_) => is_whole = true,
                    Piece::Data(range) => {
                        assert!(
                            !is_whole || range.start.is_multiple_of(ALIGNMENT),
                            "cut at {cut}: {range:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let mut pos = 0;
        assert!(Deframer::new().next(&[0xff; 64], &mut pos).is_err());
    }
}
