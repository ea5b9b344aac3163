//! A byte stream. However it is cut into pieces, it must yield the same frames, or the same error
//! after the same frames.
//!
//! The input consists of the number of cuts, that many lengths of pieces, and the stream.
#![no_main]

use dst_session::deframer::{Deframer, Piece};
use dst_wire::{HEADER_LEN, Header, WireError};
use libfuzzer_sys::fuzz_target;

/// The frames of a stream, and the error that ended it, if any.
#[derive(Debug, PartialEq)]
struct Read {
    frames: Vec<(Header, Vec<u8>)>,
    error: Option<WireError>,
    data_left: usize,
}

/// Corrects the CRCs of headers, and their lengths such that the stream has more than one frame, up
/// to the first header that stays invalid.
fn repair(stream: &mut [u8]) {
    let mut rest = stream;
    while let Some((header, data)) = rest.split_first_chunk_mut::<HEADER_LEN>() {
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let len = if len > data.len() && header[1] % 2 == 0 { len % 64 } else { len };
        header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = crc32c::crc32c(&header[..44]);
        header[44..].copy_from_slice(&crc.to_le_bytes());
        match data.get_mut(len..) {
            Some(next) if Header::decode(header).is_ok() => rest = next,
            _ => return,
        }
    }
}

/// Feeds `stream` in pieces of the given lengths, repeating the last one. With `apart`, data is
/// received elsewhere, as large data is.
fn read(stream: &[u8], lengths: &[u8], apart: bool) -> Read {
    let mut deframer = Deframer::new();
    let mut frames: Vec<(Header, Vec<u8>)> = Vec::new();
    let mut rest = stream;
    let mut lengths = lengths.iter().map(|&len| usize::from(len).max(1));
    let mut last = stream.len();
    while !rest.is_empty() {
        if apart && deframer.data_left() > 0 {
            let (data, behind) = rest.split_at(deframer.data_left().min(rest.len()));
            deframer.data_received(data.len());
            frames.last_mut().expect("data belongs to a frame").1.extend_from_slice(data);
            rest = behind;
            continue;
        }
        last = lengths.next().unwrap_or(last);
        let (buf, behind) = rest.split_at(last.min(rest.len()));
        rest = behind;
        let mut pos = 0;
        loop {
            let before = pos;
            match deframer.next(buf, &mut pos) {
                Ok(Some(Piece::Header(header))) => frames.push((header, Vec::new())),
                Ok(Some(Piece::Data(range))) => {
                    assert_eq!(range, before..pos);
                    assert!(!range.is_empty());
                    frames.last_mut().expect("data belongs to a frame").1.extend_from_slice(&buf[range]);
                }
                Ok(None) => break,
                Err(error) => return Read { frames, error: Some(error), data_left: 0 },
            }
            assert!(pos > before);
        }
        assert_eq!(pos, buf.len());
    }
    Read { frames, error: None, data_left: deframer.data_left() }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cuts, rest)) = data.split_first() else { return };
    let (lengths, stream) = rest.split_at(usize::from(cuts % 16).min(rest.len()));
    let mut stream = stream.to_vec();
    if cuts < 0xf0 {
        repair(&mut stream);
    }

    let whole = read(&stream, &[], false);
    assert_eq!(read(&stream, lengths, false), whole);
    assert_eq!(read(&stream, lengths, true), whole);
    assert_eq!(read(&stream, &[1], false), whole);

    // The output equals the input.
    let mut at = 0;
    let complete = whole.frames.len().saturating_sub(1);
    for (i, (header, data)) in whole.frames.iter().enumerate() {
        at += HEADER_LEN;
        assert_eq!(stream[at..at + data.len()], data[..]);
        at += data.len();
        let left = if i == complete { whole.data_left } else { 0 };
        assert_eq!(data.len() + left, header.data_len as usize);
    }
    assert!(stream.len() - at < HEADER_LEN || whole.error.is_some());
});
