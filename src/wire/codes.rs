//! The macro that declares each enumeration of the wire format once.

/// Declares an enumeration whose codes are sent on the wire. One list yields the type, `ALL`, the
/// code and the name of each value, and decoding.
macro_rules! codes {
    (
        $(#[$attribute:meta])*
        $name:ident: $code:ty {
            $($(#[$of_value:meta])* $value:ident = $number:literal $text:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr($code)]
        pub enum $name {
            $($(#[$of_value])* $value = $number,)+
        }

        impl $name {
            /// All values, in the order of their declaration.
            pub const ALL: [$name; [$($number as $code),+].len()] = [$($name::$value),+];

            /// Returns the code on the wire.
            #[inline]
            pub const fn code(self) -> $code {
                self as $code
            }

            /// Returns the value with this code, or `None` if this version does not know the code.
            #[inline]
            pub const fn try_from_code(code: $code) -> Option<$name> {
                match code {
                    $($number => Some($name::$value),)+
                    _ => None,
                }
            }

            /// Returns the name that logs, errors and JSON-RPC show.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$value => $text,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use codes;

#[cfg(test)]
mod tests {
    use crate::event::EventCode;
    use crate::{Cipher, Digest, Kind, Op, RefusalReason, Status};
    use std::collections::HashSet;

    /// Checks that an enumeration has the codes from `first` to `last` without gaps, as
    /// docs/protocol.md lists them, that each code decodes to its own value, that names are unique,
    /// and that no other code decodes.
    macro_rules! check {
        ($name:ident, $code:ty, $first:literal..=$last:literal) => {
            let codes: Vec<$code> = $name::ALL.iter().map(|value| value.code()).collect();
            assert_eq!(codes, ($first..=$last).collect::<Vec<$code>>());
            let names: HashSet<&str> = $name::ALL.iter().map(|value| value.name()).collect();
            assert_eq!(names.len(), $name::ALL.len());
            for code in 0..=<$code>::MAX {
                let value = $name::ALL.into_iter().find(|value| value.code() == code);
                assert_eq!($name::try_from_code(code), value);
            }
        };
    }

    #[test]
    fn every_code_names_one_value() {
        check!(Kind, u8, 1..=13);
        check!(Op, u8, 1..=7);
        check!(Status, u8, 0..=7);
        check!(Digest, u8, 0..=1);
        check!(Cipher, u8, 0..=3);
        check!(RefusalReason, u16, 1..=7);
        check!(EventCode, u8, 1..=2);
    }

    #[test]
    fn names_are_those_of_the_rpc_contract() {
        assert_eq!(Digest::ALL.map(Digest::name), ["none", "crc32c"]);
        assert_eq!(
            Cipher::ALL.map(Cipher::name),
            ["none", "aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"]
        );
        for op in Op::ALL {
            assert_eq!(op.name(), format!("{op:?}"));
        }
    }
}
