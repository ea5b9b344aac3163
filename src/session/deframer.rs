//! Splits a byte stream into headers and runs of data.

use std::ops::Range;

use dst_wire::{HEADER_LEN, Header, WireError};

/// Where a stream is between two frames, in a header, or in data.
///
/// Bytes are received into any buffer and shown to [`Deframer::next`], which names what they are; data is
/// not copied here. A header that is cut by the end of the buffer is kept until the rest comes, so a
/// buffer that was read to its end may be given to another connection.
///
/// Large data need not pass through the buffer: when [`Deframer::data_left`] is not zero, that many bytes
/// may be received straight to where they belong and noted with [`Deframer::data_received`].
#[derive(Debug)]
pub struct Deframer {
    partial: [u8; HEADER_LEN],
    partial_len: usize,
    data_left: usize,
}

/// What comes next in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A frame begins. If it has data, the next pieces are that data.
    Header(Header),
    /// A run of the frame's data, by its place in the buffer.
    Data(Range<usize>),
}

impl Default for Deframer {
    fn default() -> Deframer {
        Deframer::new()
    }
}

impl Deframer {
    /// At the start of a stream.
    pub const fn new() -> Deframer {
        Deframer { partial: [0; HEADER_LEN], partial_len: 0, data_left: 0 }
    }

    /// Bytes of the current frame's data that have not come yet.
    pub fn data_left(&self) -> usize {
        self.data_left
    }

    /// Whether a frame has begun and not ended.
    pub fn is_mid_frame(&self) -> bool {
        self.partial_len > 0 || self.data_left > 0
    }

    /// Notes that `len` bytes of the current frame's data were received elsewhere.
    ///
    /// # Panics
    /// If the frame has less data left.
    pub fn data_received(&mut self, len: usize) {
        assert!(len <= self.data_left, "{len} bytes of data noted, {} are left", self.data_left);
        self.data_left -= len;
    }

    /// Names what is at `*pos` in `buf` and moves `*pos` behind it; `None` when the buffer is used up.
    ///
    /// # Errors
    /// A header that is none. The stream is of no use after that.
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

    /// Feeds `stream` in pieces of the given sizes (the last one again and again); gives ids and data.
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
    fn garbage_is_an_error() {
        let mut pos = 0;
        assert!(Deframer::new().next(&[0xff; 64], &mut pos).is_err());
    }
}
