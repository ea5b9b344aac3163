//! CRC32C over data in pieces.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// A CRC32C (Castagnoli) that is computed piece by piece.
///
/// Two libraries compute it, each where it is the fastest of the well-maintained ones: `crc-fast` on
/// CPUs with AVX-512 (128 KiB in 2.2 µs, where `crc32c` takes 5.7 to 6.5) and on those that are not
/// x86-64, `crc32c` on all others (128 KiB in 5.3 µs and 4 KiB in 217 ns on an AMD Zen 3, where
/// `crc-fast` takes 7.1 µs and 275 ns).
#[derive(Debug, Default)]
pub struct Crc32c {
    /// The CRC of the pieces so far.
    crc: u32,
}

/// What computes a CRC.
#[derive(Debug, Clone, Copy)]
enum Library {
    CrcFast,
    Crc32c,
}

impl Crc32c {
    /// Creates the CRC of no bytes.
    pub fn new() -> Crc32c {
        Crc32c::default()
    }

    /// Returns the CRC of contiguous bytes, which is cheaper than piece by piece.
    #[inline]
    pub fn of(bytes: &[u8]) -> u32 {
        match Library::best() {
            Library::CrcFast => checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32,
            Library::Crc32c => crc32c::crc32c(bytes),
        }
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
        self.crc = Library::best().append(self.crc, bytes);
    }

    /// Returns the CRC of all pieces.
    pub fn finish(&self) -> u32 {
        self.crc
    }
}

impl Library {
    /// Returns the one that is faster on this CPU. Without AVX-512, `crc-fast` multiplies 16 bytes at
    /// a time, which AMD's CPUs before Zen 4 do at half the rate of their CRC32 instruction.
    #[inline]
    fn best() -> Library {
        #[cfg(target_arch = "x86_64")]
        if !std::arch::is_x86_feature_detected!("avx512vl") {
            return Library::Crc32c;
        }
        Library::CrcFast
    }

    /// Returns the CRC of the bytes whose CRC is `crc`, with `bytes` after them.
    fn append(self, crc: u32, bytes: &[u8]) -> u32 {
        match self {
            Library::CrcFast => {
                // The state is the inverted CRC.
                let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, (!crc).into());
                digest.update(bytes);
                digest.finalize() as u32
            }
            Library::Crc32c => crc32c::crc32c_append(crc, bytes),
        }
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

    /// The definition, one bit at a time: the polynomial of RFC 3720, section 12.1, reflected.
    fn by_definition(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut: u16) {
            let expected = by_definition(&bytes);
            let (first, second) = bytes.split_at(usize::from(cut) % (bytes.len() + 1));
            // Whatever CPU the tests have, both libraries are tested.
            for library in [Library::CrcFast, Library::Crc32c] {
                prop_assert_eq!(library.append(library.append(0, first), second), expected);
            }
            prop_assert_eq!(Crc32c::of(&bytes), expected);
            let of_pieces = Crc32c::of_pieces(bytes.len(), |at| bytes[at..].chunks(700).next().unwrap_or_default());
            prop_assert_eq!(of_pieces, expected);
        }
    }
}
