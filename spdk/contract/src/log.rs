//! How much a line of the log matters.

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What an operator wants to know; the least that is printed by default.
    Notice,
    /// What helps to follow events.
    Info,
    /// What helps to find a bug.
    Debug,
}
