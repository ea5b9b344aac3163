//! The protection of data: digests and ciphers.

use crate::codes::codes;

codes! {
    /// A checksum over the data of a frame. The number is its code on the wire.
    Digest: u8 {
        /// No checksum.
        None = 0 "none",
        /// CRC32C.
        Crc32c = 1 "crc32c",
    }
}

codes! {
    /// The encryption of everything from the hello on. The number is its code on the wire.
    Cipher: u8 {
        /// No encryption: anyone on the path can read and change everything.
        None = 0 "none",
        /// AES-128 in Galois/counter mode.
        Aes128Gcm = 1 "aes-128-gcm",
        /// AES-256 in Galois/counter mode.
        Aes256Gcm = 2 "aes-256-gcm",
        /// ChaCha20 with Poly1305.
        ChaCha20Poly1305 = 3 "chacha20-poly1305",
    }
}
