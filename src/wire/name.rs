//! The names of exports and hosts.

use crate::attribute::is_text;

/// The maximum length of the name of an export or a host, in bytes: NVMe's limit for a qualified
/// name.
pub const NAME_MAX: usize = 223;

/// Returns whether `name` is a valid name of an export or a host: 1 to [`NAME_MAX`] bytes without
/// control characters.
pub fn is_name(name: &str) -> bool {
    is_text(name, NAME_MAX)
}
