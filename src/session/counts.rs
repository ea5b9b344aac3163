//! What a client counts, for people to look at.

use crate::histogram::Histogram;

/// A bdev's counts at one moment: the sum of those of its channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions begun.
    pub transactions: u64,
    /// I/O that ended with an error.
    pub errors: u64,
    /// I/O among `errors` whose time was up, or that was sent too often.
    pub expired: u64,
    /// Connections lost.
    pub lost: u64,
    /// Connections made after one was lost.
    pub reconnects: u64,
    /// Transactions sent again.
    pub resent: u64,
    /// Transactions sent again because data did not match its digest.
    pub corrupt: u64,
    /// Transactions outstanding now.
    pub outstanding: u64,
    /// I/O that waits now, for a connection or a credit.
    pub waiting: u64,
    /// Bytes of reads that have ended.
    pub read_bytes: u64,
    /// Bytes of writes and compare-and-writes that have ended.
    pub written_bytes: u64,
    /// How long reads took, from submission to completion, µs.
    pub read_latency: Histogram,
    /// How long writes and compare-and-writes took, µs.
    pub write_latency: Histogram,
    /// How long all other operations took, µs.
    pub other_latency: Histogram,
}
