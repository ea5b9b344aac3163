//! Log levels.

/// The level of a log line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be, but nothing has failed.
    Warn,
    /// Information for an operator; the lowest level that is printed by default.
    Notice,
    /// Information that helps to follow events.
    Info,
    /// Information that helps to find a bug.
    Debug,
}
