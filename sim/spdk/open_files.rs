//! The number of files that the process may have open.

/// Raises the limit and returns it: here there is none.
pub fn raise() -> u64 {
    u64::MAX
}

/// Returns whether the process may open more than `_spare` further files: here always true.
pub fn has_more_than(_spare: u64) -> bool {
    true
}

/// Returns the number of files that the process has open.
pub fn in_use() -> u64 {
    0
}
