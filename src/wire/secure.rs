//! The messages in clear that secure a connection before its hello. They carry those of the Noise
//! handshake.
//!
//! The client's [`Offer`] names in clear the host whose key is used, and what the target may choose
//! from. The key agreement covers every byte of the offer, so that nobody on the path can change
//! it. The target's choice, [`Chosen`], is encrypted in its Noise message.

use crate::attribute::{Reader, Writer, required};
use crate::hello::OFFERS_MAX;
use crate::{Cipher, NAME_MAX, WireError};

/// The maximum length of a Noise message, in bytes: twice what the handshake of version 1 needs.
pub const NOISE_MAX: usize = 256;

/// What a client asks for, before it has proven that it has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The lowest and the highest protocol version that the client speaks; at least 1, in this
    /// order.
    pub versions: (u16, u16),
    /// The export to attach; [`crate::is_name`] holds.
    pub export: String,
    /// The host whose key the client has; [`crate::is_name`] holds.
    pub host: String,
    /// The wire codes of the ciphers that the client accepts, in order of preference, at most
    /// [`OFFERS_MAX`].
    pub ciphers: Vec<u8>,
}

/// A client's first message, as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secure<'a> {
    /// What the client asks for.
    pub offer: Offer,
    /// The bytes before the Noise message, which the key agreement covers.
    pub bound: &'a [u8],
    /// The Noise message.
    pub noise: &'a [u8],
}

/// The target's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The protocol version.
    pub version: u16,
    /// The cipher.
    pub cipher: Cipher,
}

const SECURE: &str = "secure";
const SECURED: &str = "secured";
const CHOSEN: &str = "chosen";

/// Attributes that a hello also has have the same types there.
mod attr {
    pub const VERSION_MIN: u16 = 1;
    pub const VERSION_MAX: u16 = 2;
    pub const EXPORT: u16 = 3;
    pub const HOST: u16 = 4;
    pub const CIPHERS: u16 = 8;
    pub const NOISE: u16 = 11;
}

/// The attributes of [`Chosen`], with the same types as in a welcome.
mod chosen {
    pub const VERSION: u16 = 1;
    pub const CIPHER: u16 = 8;
}

impl Offer {
    /// Encodes the attributes without the Noise message, which has to cover them.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(attr::VERSION_MIN, self.versions.0)
            .u16(attr::VERSION_MAX, self.versions.1)
            .bytes(attr::EXPORT, self.export.as_bytes())
            .bytes(attr::HOST, self.host.as_bytes())
            .bytes(attr::CIPHERS, &self.ciphers);
        w.finish()
    }
}

/// Encodes the attributes of the client's message: an encoded [`Offer`], then the Noise message.
pub fn encode_secure(offer: &[u8], noise: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(attr::NOISE, noise);
    [offer, &w.finish()].concat()
}

/// Encodes the attributes of the target's reply.
pub fn encode_secured(noise: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(attr::NOISE, noise);
    w.finish()
}

/// Decodes the target's reply. Returns its Noise message.
///
/// # Errors
/// See [`WireError`].
pub fn decode_secured(message: &[u8]) -> Result<&[u8], WireError> {
    let mut noise = None;
    let mut reader = Reader::new(SECURED, message);
    while let Some(a) = reader.next()? {
        if a.kind == attr::NOISE {
            noise = Some(a.codes(NOISE_MAX)?);
        }
    }
    required(noise, SECURED, attr::NOISE)
}

impl<'a> Secure<'a> {
    /// Decodes a client's message.
    ///
    /// # Errors
    /// See [`WireError`]. The Noise message must be the last attribute, since nothing after it
    /// would be covered.
    pub fn decode(message: &'a [u8]) -> Result<Secure<'a>, WireError> {
        let (mut min, mut max, mut export, mut host) = (None, None, None, None);
        let mut ciphers = Vec::new();
        let mut reader = Reader::new(SECURE, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                attr::VERSION_MIN => min = Some(a.u16()?),
                attr::VERSION_MAX => max = Some(a.u16()?),
                attr::EXPORT => export = Some(a.text(NAME_MAX)?.to_owned()),
                attr::HOST => host = Some(a.text(NAME_MAX)?.to_owned()),
                attr::CIPHERS => ciphers = a.codes(OFFERS_MAX)?.to_vec(),
                attr::NOISE => {
                    let noise = a.codes(NOISE_MAX)?;
                    if reader.next()?.is_some() {
                        return Err(a.refused());
                    }
                    let bound = &message[..message.len() - noise.len() - 4];
                    let offer = Offer {
                        versions: (
                            required(min, SECURE, attr::VERSION_MIN)?,
                            required(max, SECURE, attr::VERSION_MAX)?,
                        ),
                        export: required(export, SECURE, attr::EXPORT)?,
                        host: required(host, SECURE, attr::HOST)?,
                        ciphers,
                    };
                    let allowed = [
                        (offer.versions.0 >= 1, attr::VERSION_MIN),
                        (offer.versions.1 >= offer.versions.0, attr::VERSION_MAX),
                    ];
                    WireError::unless_all(SECURE, &allowed)?;
                    return Ok(Secure { offer, bound, noise });
                }
                _ => {}
            }
        }
        Err(WireError::Missing(crate::AttributeRef { list: SECURE, kind: attr::NOISE }))
    }
}

impl Chosen {
    /// Encodes the attributes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u16(chosen::VERSION, self.version).u8(chosen::CIPHER, self.cipher.code());
        w.finish()
    }

    /// Decodes the attributes.
    ///
    /// # Errors
    /// See [`WireError`].
    pub fn decode(message: &[u8]) -> Result<Chosen, WireError> {
        let (mut version, mut cipher) = (None, None);
        let mut reader = Reader::new(CHOSEN, message);
        while let Some(a) = reader.next()? {
            match a.kind {
                chosen::VERSION => version = Some(a.u16()?),
                chosen::CIPHER => cipher = Some(a.code(Cipher::try_from_code)?),
                _ => {}
            }
        }
        Ok(Chosen {
            version: required(version, CHOSEN, chosen::VERSION)?,
            cipher: required(cipher, CHOSEN, chosen::CIPHER)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttributeRef;
    use crate::testing::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_offer() -> impl Strategy<Value = Offer> {
        (1u16.., any::<u16>(), any_name(), any_name(), vec(any::<u8>(), 0..=OFFERS_MAX)).prop_map(
            |(min, more, export, host, ciphers)| Offer {
                versions: (min, min.saturating_add(more)),
                export,
                host,
                ciphers,
            },
        )
    }

    fn example() -> Vec<u8> {
        let offer = Offer { versions: (1, 1), export: "vol".into(), host: "me".into(), ciphers: vec![2] };
        encode_secure(&offer.encode(), &[9; 48])
    }

    #[test]
    fn what_is_missing_is_named() {
        for kind in [1, 2, 3, 4, 11] {
            let missing = WireError::Missing(AttributeRef { list: "secure", kind });
            assert_eq!(Secure::decode(&without(&example(), &[], kind)), Err(missing));
        }
        let bare = without(&example(), &[], 8);
        assert_eq!(Secure::decode(&bare).unwrap().offer.ciphers, vec![0; 0]);
        for kind in [1, 8] {
            let chosen = Chosen { version: 1, cipher: Cipher::Aes256Gcm }.encode();
            let missing = WireError::Missing(AttributeRef { list: "chosen", kind });
            assert_eq!(Chosen::decode(&without(&chosen, &[], kind)), Err(missing));
        }
        assert!(decode_secured(&[]).is_err());
        let chosen = Chosen { version: 1, cipher: Cipher::Aes256Gcm }.encode();
        let unknown = WireError::Value(AttributeRef { list: "chosen", kind: 8 });
        assert_eq!(Chosen::decode(&with(&chosen, &[], 8, &[4])), Err(unknown));
    }

    #[test]
    fn impossible_values_are_refused() {
        for (kind, bad) in [
            (1, vec![0, 0]),
            (2, vec![0, 0]),
            (3, b"a\nb".to_vec()),
            (4, b"".to_vec()),
            (8, vec![1; OFFERS_MAX + 1]),
            (11, vec![0; NOISE_MAX + 1]),
        ] {
            let error = WireError::Value(AttributeRef { list: "secure", kind });
            assert_eq!(Secure::decode(&with(&example(), &[], kind, &bad)), Err(error));
        }
    }

    #[test]
    fn nothing_follows_the_noise_message() {
        let mut w = Writer::new();
        w.u8(70, 1);
        let behind = [example(), w.finish()].concat();
        assert_eq!(Secure::decode(&behind), Err(WireError::Value(AttributeRef { list: "secure", kind: 11 })));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(offer in any_offer(), noise in vec(any::<u8>(), 0..NOISE_MAX)) {
            let bound = offer.encode();
            let message = encode_secure(&bound, &noise);
            let decoded = Secure { offer, bound: &bound, noise: &noise };
            prop_assert_eq!(Secure::decode(&message), Ok(decoded));
            let answer = encode_secured(&noise);
            prop_assert_eq!(decode_secured(&answer), Ok(&noise[..]));
        }

        #[test]
        fn unknown_attributes_are_passed_over_and_covered(offer in any_offer(), unknown in any_unknown()) {
            let bound = with_unknown(&offer.encode(), &[], &unknown);
            let message = encode_secure(&bound, &[7; 48]);
            let read = Secure::decode(&message).unwrap();
            prop_assert_eq!((read.offer, read.bound), (offer, &bound[..]));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in vec(any::<u8>(), 0..512)) {
            let _ = Secure::decode(&bytes);
            let _ = decode_secured(&bytes);
            let _ = Chosen::decode(&bytes);
        }
    }
}
