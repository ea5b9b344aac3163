//! Random numbers.

use world::with;

/// Fills `bytes` with random bytes, which the seed decides.
pub fn fill(bytes: &mut [u8]) {
    with(|w| {
        for chunk in bytes.chunks_mut(8) {
            let bits = w.rng.bits().to_le_bytes();
            chunk.copy_from_slice(&bits[..chunk.len()]);
        }
    });
}
