//! The limit on log lines that a target can cause.

use dst_session::rate::RateLimit;

/// The limit on the log lines of one connection: a target that is lost and found again all the time
/// is logged once a second.
pub type Limit = RateLimit<1>;
