//! CRC32C over data in pieces.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// A CRC32C (Castagnoli) that is computed piece by piece.
///
/// `crc-fast` is the fastest of the well-maintained implementations: 36 to 51 GB/s, where `crc32c`,
/// the oracle of the tests, reaches 20 to 23.
#[derive(Debug)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// Creates the CRC of no bytes.
    pub fn new() -> Crc32c {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Returns the CRC of contiguous bytes, which is cheaper than piece by piece.
    #[inline]
    pub fn of(bytes: &[u8]) -> u32 {
        checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
    }

    /// Returns the CRC of `len` bytes in pieces. `piece` returns, for an offset, the rest of the
    /// piece that contains the byte at that offset.
    ///
    /// # Panics
    /// If the pieces have fewer than `len` bytes.
    #[inline]
    pub fn of_pieces<'a>(len: usize, piece: impl Fn(usize) -> &'a [u8]) -> u32 {
        let first = piece(0);
        if first.len() >= len {
            return Crc32c::of(&first[..len]);
        }
        let mut crc = Crc32c::new();
        let mut at = 0;
        while at < len {
            let next = piece(at);
            assert!(!next.is_empty(), "the pieces have {at} bytes, not {len}");
            let next = &next[..next.len().min(len - at)];
            crc.update(next);
            at += next.len();
        }
        crc.finish()
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the CRC of all pieces.
    pub fn finish(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(Crc32c::of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(Crc32c::new().finish(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut: u16) {
            let (first, second) = bytes.split_at(usize::from(cut) % (bytes.len() + 1));
            let mut crc = Crc32c::new();
            crc.update(first);
            crc.update(second);
            prop_assert_eq!(crc.finish(), crc32c::crc32c(&bytes));
            prop_assert_eq!(Crc32c::of(&bytes), crc32c::crc32c(&bytes));
            let of_pieces = Crc32c::of_pieces(bytes.len(), |at| bytes[at..].chunks(700).next().unwrap_or_default());
            prop_assert_eq!(of_pieces, crc32c::crc32c(&bytes));
        }
    }
}
