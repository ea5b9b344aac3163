//! The text form in which an export's ownership outlives the target: lines of text, of which the
//! last is a checksum over the lines before it.

use dst_wire::{Crc32c, NAME_MAX, Ownership, is_name};
use thiserror::Error;

/// The maximum length of a text in bytes: the fixed parts, two names of [`NAME_MAX`] bytes, and
/// three numbers.
pub const KEPT_MAX: usize = 128 + 2 * NAME_MAX + 3 * 20;

const TITLE: &str = "DST export ownership, version 1";

/// Why a text does not give an export's ownership.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeptError {
    /// The text is not one that [`encode`] writes, or its checksum is wrong.
    #[error("is damaged, or not a state file of version 1")]
    Damaged,
    /// The text is about another export.
    #[error("is of export `{0}`")]
    OtherExport(String),
}

/// Returns the text form of an export's ownership.
pub fn encode(export: &str, ownership: &Ownership) -> String {
    let mut text = format!("{TITLE}\nexport {export}\nnumber {}\n", ownership.number());
    if let Ownership::Exclusive { host, since_s, .. } = ownership {
        text += &format!("owner {host}\nsince {since_s}\n");
    }
    let crc = Crc32c::of(text.as_bytes());
    text + &format!("crc32c {crc:08x}\n")
}

/// Returns the ownership of an export from its text form.
///
/// # Errors
/// Fails as [`KeptError`] says.
pub fn decode(export: &str, text: &[u8]) -> Result<Ownership, KeptError> {
    let (of, ownership) = parse(text).ok_or(KeptError::Damaged)?;
    // This checks the checksum, too: `encode` writes each ownership in one way only.
    if encode(&of, &ownership).as_bytes() != text {
        return Err(KeptError::Damaged);
    }
    if of == export { Ok(ownership) } else { Err(KeptError::OtherExport(of)) }
}

/// Returns the export and its ownership, without checking the checksum.
fn parse(text: &[u8]) -> Option<(String, Ownership)> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= KEPT_MAX)?;
    let mut lines = text.split('\n');
    if lines.next()? != TITLE {
        return None;
    }
    let export = lines.next()?.strip_prefix("export ").filter(|name| is_name(name))?;
    // The number must leave room for those that follow.
    let number =
        lines.next()?.strip_prefix("number ")?.parse().ok().filter(|&number| number < u64::MAX / 2)?;
    let ownership = match lines.next()?.strip_prefix("owner ") {
        None => Ownership::Free { last: number },
        Some(host) => Ownership::Exclusive {
            number: Some(number).filter(|&number| number > 0)?,
            host: Some(host).filter(|name| is_name(name))?.to_owned(),
            since_s: lines.next()?.strip_prefix("since ")?.parse().ok()?,
        },
    };
    Some((export.to_owned(), ownership))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owned() -> Ownership {
        Ownership::Exclusive { number: 7, host: "alpha beta".to_owned(), since_s: 1_800_000_000 }
    }

    #[test]
    fn a_text_is_readable() {
        let text = encode("disk0", &owned());
        let (lines, crc) = text.rsplit_once("crc32c ").unwrap();
        assert_eq!(
            lines,
            "DST export ownership, version 1\nexport disk0\nnumber 7\nowner alpha beta\nsince 1800000000\n"
        );
        assert_eq!(crc.len(), 9);
        assert_eq!(decode("disk0", text.as_bytes()), Ok(owned()));
        assert_eq!(decode("disk1", text.as_bytes()), Err(KeptError::OtherExport("disk0".to_owned())));
    }

    #[test]
    fn every_damage_is_seen() {
        for ownership in [owned(), Ownership::Free { last: 7 }] {
            let text = encode("disk0", &ownership).into_bytes();
            assert_eq!(decode("disk0", &text), Ok(ownership));
            for end in 0..text.len() {
                assert_eq!(decode("disk0", &text[..end]), Err(KeptError::Damaged), "torn after {end} bytes");
            }
            for at in 0..text.len() {
                for bit in 0..8 {
                    let mut other = text.clone();
                    other[at] ^= 1 << bit;
                    assert!(decode("disk0", &other).is_err(), "bit {bit} of byte {at}");
                }
            }
            let longer = [&text[..], b"\n"].concat();
            assert_eq!(decode("disk0", &longer), Err(KeptError::Damaged));
        }
    }

    #[test]
    fn no_number_leaves_no_room_for_the_next() {
        let text = encode("disk0", &Ownership::Free { last: u64::MAX });
        assert_eq!(decode("disk0", text.as_bytes()), Err(KeptError::Damaged));
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(
            export in "[^\\p{Cc}]{1,55}", host in "[^\\p{Cc}]{1,55}", number in 1..u64::MAX / 2, since_s: u64,
        ) {
            for ownership in [Ownership::Free { last: number }, Ownership::Exclusive { number, host, since_s }] {
                let text = encode(&export, &ownership);
                prop_assert!(text.len() <= KEPT_MAX);
                prop_assert_eq!(decode(&export, text.as_bytes()), Ok(ownership));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode("disk", &bytes);
        }
    }
}
