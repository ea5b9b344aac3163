//! How data is protected: the codes of digests and ciphers.

/// A checksum over the data of a frame. The number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Digest {
    /// None.
    None = 0,
    /// CRC32C.
    Crc32c = 1,
}

/// Protection of everything from the hello on. The number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// None: all can be read on the way.
    None = 0,
    /// AES-128 in Galois/counter mode.
    Aes128Gcm = 1,
    /// AES-256 in Galois/counter mode.
    Aes256Gcm = 2,
    /// ChaCha20 with Poly1305.
    ChaCha20Poly1305 = 3,
}
