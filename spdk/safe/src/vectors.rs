//! The user's vectors of one I/O as one range of bytes, with a cursor that makes sequential access
//! cheap.

use libc::iovec;

/// One vector, or two consecutive ones for a fused command.
#[derive(Clone, Copy)]
pub(crate) struct Vectors<'a> {
    pub(crate) first: &'a [iovec],
    pub(crate) second: &'a [iovec],
}

/// The entry at which the last walk began, and the entry's offset in the range.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    entry: usize,
    start: usize,
}

impl<'a> Vectors<'a> {
    #[inline]
    fn entry(&self, index: usize) -> Option<&'a iovec> {
        self.first.get(index).or_else(|| self.second.get(index - self.first.len()))
    }

    /// Returns the contiguous, non-empty pieces of `[skip, skip + max)`. If `skip` is not before
    /// the start of the last walk with this cursor, the walk continues from there and visits no
    /// earlier entry.
    #[inline]
    pub(crate) fn pieces(self, cursor: &mut Cursor, skip: usize, max: usize) -> Pieces<'a> {
        if skip < cursor.start {
            *cursor = Cursor::default();
        }
        if max > 0 {
            while let Some(v) = self.entry(cursor.entry) {
                if skip - cursor.start < v.iov_len {
                    break;
                }
                cursor.start += v.iov_len;
                cursor.entry += 1;
            }
        }
        Pieces { vectors: self, entry: cursor.entry, skip: skip - cursor.start, left: max }
    }
}

/// Returns the number of bytes in a vector.
pub(crate) fn bytes(vector: &[iovec]) -> usize {
    vector.iter().map(|v| v.iov_len).sum()
}

/// An iterator over the address and the length of each piece.
pub(crate) struct Pieces<'a> {
    vectors: Vectors<'a>,
    entry: usize,
    /// The number of bytes of the entry before the piece.
    skip: usize,
    left: usize,
}

impl Iterator for Pieces<'_> {
    type Item = (*mut u8, usize);

    #[inline]
    fn next(&mut self) -> Option<(*mut u8, usize)> {
        while self.left > 0 {
            let v = self.vectors.entry(self.entry)?;
            let skip = std::mem::take(&mut self.skip);
            self.entry += 1;
            let len = v.iov_len.saturating_sub(skip).min(self.left);
            if len > 0 {
                self.left -= len;
                // `skip` is less than the entry's length.
                return Some((v.iov_base.cast::<u8>().wrapping_add(skip), len));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(lens: &[usize], mut address: usize) -> Vec<iovec> {
        let entry = |&iov_len: &usize| {
            let iov_base = std::ptr::without_provenance_mut(address);
            address += iov_len;
            iovec { iov_base, iov_len }
        };
        lens.iter().map(entry).collect()
    }

    /// The vectors are contiguous from address 1000 on: byte `i` of the range is at 1000 + `i`.
    #[test]
    fn any_part_with_any_cursor_is_the_same_bytes() {
        let (first, second) = (vector(&[3, 0, 1, 5], 1000), vector(&[0, 4, 2], 1009));
        let vectors = Vectors { first: &first, second: &second };
        let total = bytes(&first) + bytes(&second);
        for before in 0..=total {
            for skip in 0..=total {
                for max in 0..=total - skip {
                    let mut cursor = Cursor::default();
                    vectors.pieces(&mut cursor, before, 1).for_each(drop);
                    let mut at = 1000 + skip;
                    for (base, len) in vectors.pieces(&mut cursor, skip, max) {
                        assert!(len > 0);
                        assert_eq!(base.addr(), at, "from {before} to {skip}, {max} bytes");
                        at += len;
                    }
                    assert_eq!(at, 1000 + skip + max);
                }
            }
        }
    }

    #[test]
    fn going_on_skips_what_was_passed() {
        let first = vector(&[512; 64], 4096);
        let vectors = Vectors { first: &first, second: &[] };
        let mut cursor = Cursor::default();
        vectors.pieces(&mut cursor, 512 * 40 + 7, 100).for_each(drop);
        assert_eq!((cursor.entry, cursor.start), (40, 512 * 40));
    }

    #[test]
    fn ends_with_the_vectors() {
        let first = vector(&[8], 0);
        let vectors = Vectors { first: &first, second: &[] };
        let mut cursor = Cursor::default();
        assert_eq!(vectors.pieces(&mut cursor, 6, usize::MAX).map(|(_, len)| len).sum::<usize>(), 2);
        assert_eq!(vectors.pieces(&mut cursor, 8, 1).count(), 0);
        assert_eq!(vectors.pieces(&mut cursor, 0, 8).count(), 1);
    }
}
