//! The limit on log lines that a target can cause.

use dst_session::rate::RateLimit;

/// The limit on the log lines of one connection: one line a second, however often the target is
/// lost and found again.
pub type LogLimit = RateLimit<1>;
