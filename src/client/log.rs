//! Log lines that a target can cause, kept few.

use dst_session::rate::RateLimit;

/// A limit on the log lines of one connection. A target that is lost and found again all the time is logged once a
/// second.
pub type Limit = RateLimit<1>;
