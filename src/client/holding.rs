//! How a client stands to the ownership of its export, for whoever takes several exports over together.

/// The newest ownership that a refusal has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// The number of the ownership.
    pub number: u64,
    /// A time after the target had read the number, in µs.
    pub read_us: u64,
    /// Whether the owner is the client's own host.
    pub is_own: bool,
}

/// How a client stands to the ownership of its export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// The client was not created with `exclusive`.
    Shared,
    /// The target has not said who owns the export.
    Unknown,
    /// The target did not admit the client, because of this ownership.
    Refused(Newest),
    /// The client claims the export, by a takeover or because its host owns it, and is not admitted yet.
    Claimed,
    /// The client owns the export and has its bdev.
    Held {
        /// A time at which the client still owned the export, in µs; 0: unknown.
        confirmed_us: u64,
    },
    /// The bdev has failed for good: another host has taken the export over, for instance.
    Over,
}
