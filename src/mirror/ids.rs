//! The names of mirrors and their members.

use dst_wire::uuid_text;
use std::fmt;

/// A mirror's id: random, and never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorId(pub u128);

/// The id of a member or a witness: random, and never 0. A device that joins again after it was
/// detached gets another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u128);

/// Displays an id as a UUID.
macro_rules! as_uuid {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&uuid_text(&self.0.to_be_bytes()))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

as_uuid!(MirrorId, MemberId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_as_uuids() {
        let id = MirrorId(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(format!("{:?}", MemberId(1)), "00000000-0000-0000-0000-000000000001");
    }
}
