//! The keys that a host and a target share, and the format of key files.
//!
//! ```text
//! DST-PSK-1
//! # comments and empty lines are skipped
//! 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
//! AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
//! ```
//!
//! A key is a line of 64 hexadecimal digits, or of 44 characters of base64 (RFC 4648, with
//! padding). A file has up to [`KEYS_MAX`] keys. A client uses the first key, and a target accepts
//! any. To replace a key, add the new one to the target's file, replace the old one in the client's
//! file, and then remove the old one from the target's file.

use std::fmt;

use base64ct::{Base64, Encoding};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// The size of a key in bytes.
pub const PSK_LEN: usize = 32;

/// The maximum number of keys in a file: an old and a new one, and as many forgotten ones. A target
/// tries each.
pub const KEYS_MAX: usize = 4;

/// The first line of a key file.
pub const HEADER: &str = "DST-PSK-1";

/// A key. It is overwritten when dropped, and never shown.
#[derive(Clone)]
pub struct Psk(Zeroizing<[u8; PSK_LEN]>);

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(not shown)")
    }
}

/// What is wrong with the text of a key file. The error contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PskError {
    /// The first line is wrong.
    #[error("its first line is not {HEADER}")]
    Header,
    /// A line is not a key.
    #[error("line {0} is neither 64 hexadecimal digits nor 44 characters of base64")]
    Line(usize),
    /// The file has no key.
    #[error("there is no key in it")]
    None,
    /// The file has too many keys.
    #[error("there are more than {KEYS_MAX} keys in it")]
    TooMany,
    /// The key cannot have come from a random number generator.
    #[error("the key in line {0} is all zeroes")]
    Zero(usize),
}

impl Psk {
    /// Creates a key of these bytes.
    pub fn new(bytes: Zeroizing<[u8; PSK_LEN]>) -> Psk {
        Psk(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; PSK_LEN] {
        &self.0
    }

    fn from_line(line: &[u8]) -> Option<Psk> {
        let mut key = Zeroizing::new([0; PSK_LEN]);
        match line.len() {
            64 => {
                for (byte, digits) in key.iter_mut().zip(line.chunks_exact(2)) {
                    *byte = digit(digits[0])? << 4 | digit(digits[1])?;
                }
            }
            44 => {
                // One byte more than a key, because the decoder wants room for the byte that the
                // padding stands for.
                let mut decoded = Zeroizing::new([0; PSK_LEN + 1]);
                let bytes = Base64::decode(line, &mut decoded[..]).ok()?;
                key.copy_from_slice(bytes.get(..).filter(|bytes| bytes.len() == PSK_LEN)?);
            }
            _ => return None,
        }
        Some(Psk(key))
    }
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).map(|digit| digit as u8)
}

/// Returns the keys in a file's text, 1 to [`KEYS_MAX`].
///
/// # Errors
/// See [`PskError`].
pub fn parse(text: &[u8]) -> Result<Vec<Psk>, PskError> {
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).zip(1..);
    if lines.next().is_none_or(|(line, _)| line != HEADER.as_bytes()) {
        return Err(PskError::Header);
    }
    // The list has room for all keys, since a list that grows leaves copies behind.
    let mut keys = Vec::with_capacity(KEYS_MAX);
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && line[0] != b'#') {
        let key = Psk::from_line(line).ok_or(PskError::Line(number))?;
        if *key.0 == [0; PSK_LEN] {
            return Err(PskError::Zero(number));
        }
        if keys.len() == KEYS_MAX {
            return Err(PskError::TooMany);
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(PskError::None) } else { Ok(keys) }
}

/// Returns the text of a file with this key.
pub fn format(key: &Psk) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + 2 * PSK_LEN + 2));
    text.push_str(HEADER);
    text.push('\n');
    for byte in key.0.iter() {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(half.into(), 16).expect("four bits are a digit"));
        }
    }
    text.push('\n');
    text
}

/// Overwrites what earlier calls have left on the stack, deeper than the key agreement goes
/// (measured: less than 16 KiB).
#[inline(never)]
pub(crate) fn wipe_stack() {
    let mut stack = [0u8; 24 << 10];
    stack.zeroize();
    std::hint::black_box(&stack);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn keys(text: &str) -> Result<Vec<[u8; 32]>, PskError> {
        Ok(parse(text.as_bytes())?.iter().map(|key| *key.bytes()).collect())
    }

    #[test]
    fn a_key_is_hexadecimal_or_base64() {
        let counted: [u8; 32] = std::array::from_fn(|i| i as u8);
        assert_eq!(keys(&format!("DST-PSK-1\n{HEX}\n")), Ok(vec![counted]));
        assert_eq!(keys(&format!("DST-PSK-1\r\n\r\n# old\r\n{BASE64}")), Ok(vec![counted]));
        assert_eq!(keys(&format!("DST-PSK-1\n  {HEX}  \n{BASE64}\n")), Ok(vec![counted; 2]));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let key = Psk::new(Zeroizing::new([0xa5; 32]));
        assert_eq!(keys(&format(&key)), Ok(vec![[0xa5; 32]]));
    }

    #[test]
    fn anything_else_is_refused() {
        let with = |line: &str| keys(&format!("DST-PSK-1\n{line}\n"));
        assert_eq!(keys(""), Err(PskError::Header));
        assert_eq!(keys(HEX), Err(PskError::Header));
        assert_eq!(keys("DST-PSK-2\n"), Err(PskError::Header));
        assert_eq!(with(""), Err(PskError::None));
        assert_eq!(with(&HEX[1..]), Err(PskError::Line(2)));
        assert_eq!(with(&HEX.replace(['a', 'A'], "g")), Err(PskError::Line(2)));
        assert_eq!(with(&BASE64.replace('=', "A")), Err(PskError::Line(2)));
        assert_eq!(with(&BASE64.replace("Hh8=", "Hh9=")), Err(PskError::Line(2)), "bits behind the end");
        assert_eq!(with(&"0".repeat(64)), Err(PskError::Zero(2)));
        assert_eq!(with(&[HEX; 5].join("\n")), Err(PskError::TooMany));
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = Psk::new(Zeroizing::new([0xa5; 32]));
        assert_eq!(format!("{key:?}"), "Psk(not shown)");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: Vec<u8>) {
            let _ = parse(&text);
            let _ = parse(&[b"DST-PSK-1\n", &text[..]].concat());
        }
    }
}
