//! The content of blocks, which identifies the user's write that it came from.

use crate::state::store::Content;

fn word(write: u64, block: u64, index: u64) -> u64 {
    if index == 0 { write } else { (write ^ block << 40 ^ index << 52).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}

/// Fills the bytes of a block.
pub fn fill(bytes: &mut [u8], block: u64, content: Content) {
    if content.zero {
        return bytes.fill(0);
    }
    for (index, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&word(content.write, block, index as u64).to_le_bytes());
    }
}

/// Returns the write that a block's bytes are from: 0 for zeroes, `None` for bytes that no write
/// has put there.
pub fn write_of(bytes: &[u8], block: u64) -> Option<u64> {
    let first = u64::from_le_bytes(bytes.first_chunk().copied()?);
    let fits = |(index, chunk): (usize, &[u8])| {
        let expected = if first == 0 { 0 } else { word(first, block, index as u64) };
        chunk == expected.to_le_bytes()
    };
    bytes.chunks_exact(8).enumerate().all(fits).then_some(first)
}
