//! The secrets from which a direction's keys come, one after the other.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::Zeroizing;

/// Bytes of a secret: SHA-256's output, and what Noise's Split gives.
pub const SECRET_LEN: usize = 32;

/// A secret. Overwritten when it is dropped, and shown nowhere.
pub struct Secret(Zeroizing<[u8; SECRET_LEN]>);

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    pub fn new(bytes: Zeroizing<[u8; SECRET_LEN]>) -> Secret {
        Secret(bytes)
    }

    /// HKDF-Expand with SHA-256 (RFC 5869, section 2.3): fills `out` with what `info` names.
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let len = out.len();
        Prk::new_less_safe(HKDF_SHA256, &self.0[..])
            .expand(info, Len(len))
            .and_then(|okm| okm.fill(out))
            .expect("a key is shorter than what HKDF can give");
    }

    /// The secret after this one. There is no way back (RFC 8446, section 7.2, has the same step).
    pub fn next(&self) -> Secret {
        let mut next = Zeroizing::new([0; SECRET_LEN]);
        self.expand(&[b"dst next"], &mut next[..]);
        Secret(next)
    }
}
