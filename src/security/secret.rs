//! The successive secrets from which a direction's keys are derived.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::Zeroizing;

/// The size of a secret in bytes: SHA-256's output, and what Noise's Split yields.
pub const SECRET_LEN: usize = 32;

/// A secret. It is overwritten when dropped, and never shown. It is boxed so that moving it leaves no
/// copies.
pub struct Secret(Box<Zeroizing<[u8; SECRET_LEN]>>);

const _: () = assert!(size_of::<Secret>() == size_of::<usize>(), "a move copies a pointer only");

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    pub fn new(bytes: Zeroizing<[u8; SECRET_LEN]>) -> Secret {
        Secret(Box::new(bytes))
    }

    /// Fills `out` by HKDF-Expand with SHA-256 (RFC 5869, section 2.3) and `info`.
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let len = out.len();
        Prk::new_less_safe(HKDF_SHA256, &self.0[..])
            .expand(info, Len(len))
            .and_then(|okm| okm.fill(out))
            .expect("a key is shorter than what HKDF can give");
    }

    /// Returns the next secret, from which this one cannot be computed (the same step as in RFC
    /// 8446, section 7.2).
    pub fn next(&self) -> Secret {
        let mut next = Secret::new(Zeroizing::new([0; SECRET_LEN]));
        self.expand(&[b"dst next"], &mut next.0[..]);
        next
    }
}
