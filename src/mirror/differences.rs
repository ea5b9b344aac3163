//! Where two buffers differ.

use crate::extents::Extent;

/// Returns the ranges of blocks that differ in two buffers of whole blocks of `block_size` bytes, in
/// ascending order. The buffers begin with the block `start`. What only the longer one has differs.
pub fn differences(one: &[u8], other: &[u8], start: u64, block_size: usize) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    if one == other {
        return found;
    }
    let count = one.len().max(other.len()).div_ceil(block_size);
    for at in 0..count {
        let of = at * block_size..(at + 1) * block_size;
        let (mine, others) = (one.get(of.clone()), other.get(of));
        if mine.is_some() && mine == others {
            continue;
        }
        let block = start + at as u64;
        match found.last_mut() {
            Some(last) if last.end() == block => last.count += 1,
            _ => found.push(Extent::new(block, 1)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 4;

    #[test]
    fn equal_buffers_have_no_differences() {
        assert_eq!(differences(&[7; 12], &[7; 12], 5, SIZE), []);
        assert_eq!(differences(&[], &[], 5, SIZE), []);
    }

    #[test]
    fn neighbours_are_one_range() {
        let one = [0; 6 * SIZE];
        let mut other = one;
        for byte in [0, SIZE, SIZE + 1, 5 * SIZE - 1, 6 * SIZE - 1] {
            other[byte] = 1;
        }
        assert_eq!(differences(&one, &other, 100, SIZE), [Extent::new(100, 2), Extent::new(104, 2)]);
    }

    #[test]
    fn what_only_one_has_differs() {
        assert_eq!(differences(&[7; 12], &[7; 8], 0, SIZE), [Extent::new(2, 1)]);
    }
}
