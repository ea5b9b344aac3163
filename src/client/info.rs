//! A bdev as `bdev_dst_get_info` shows it.

use dst_session::counts::Counts;
use dst_session::histogram::Histogram;
use dst_wire::{Cipher, Device, Digest};

use crate::options::BdevParams;
use crate::places::PathState;

/// The state of a bdev, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BdevState {
    /// There is no bdev yet.
    Attaching,
    /// All connections are up.
    Connected,
    /// At least one connection is missing.
    Reconnecting,
    /// There has been no connection for `fast_io_fail_timeout_ms`: I/O fails at once.
    Unreachable,
    /// The device is gone for good, or the target's device is another one.
    Failed,
}

/// The state of one of a target's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The address.
    pub address: String,
    /// The state of the path to it.
    pub state: PathState,
    /// The number of established connections to this address, including the control connection.
    pub connections: usize,
    /// The number of lost connections to this address.
    pub losses: u64,
    /// What is wrong with the path; otherwise, the reason for which the last attempt failed or the
    /// last connection was lost, until another connection is admitted.
    pub last_error: Option<String>,
}

/// A bdev's parameters, state and counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The user's parameters.
    pub params: BdevParams,
    /// The target's address that is in use, or `None` if no name was resolved yet.
    pub address: Option<String>,
    /// The state of each of the target's addresses, in the user's order.
    pub paths: Vec<PathInfo>,
    /// The bdev's state.
    pub state: BdevState,
    /// The time for which the bdev has had this state, ms.
    pub state_age_ms: u64,
    /// The device as the target last described it, or `None` before the first Welcome.
    pub device: Option<Device>,
    /// The maximum length of a request in bytes.
    pub max_transfer: u32,
    /// Transactions granted to a connection.
    pub credits: u16,
    /// The keep-alive time, which is the length of a lease, ms.
    pub keep_alive_ms: u32,
    /// The number of established connections, including the control connection.
    pub connections: usize,
    /// The number of channels: threads that have the bdev open.
    pub channels: usize,
    /// Transactions begun.
    pub transactions: u64,
    /// I/O that ended with an error.
    pub errors: u64,
    /// I/O among `errors` whose deadline had passed, or that was sent too often.
    pub expired: u64,
    /// Connections lost.
    pub lost: u64,
    /// Connections that followed a lost one.
    pub reconnects: u64,
    /// Transactions sent again.
    pub resent: u64,
    /// Transactions sent again because data did not match its digest.
    pub corrupt: u64,
    /// The digest in use.
    pub digest: Digest,
    /// The cipher in use.
    pub cipher: Cipher,
    /// The number of the client's last ownership of the export, if it had one.
    pub ownership: Option<u64>,
    /// The number of restarts of the target that may have lost completed writes.
    pub lost_caches: u64,
    /// Transactions outstanding now.
    pub outstanding: u64,
    /// I/O that waits now, for a connection or for a credit.
    pub waiting: u64,
    /// How long reads took, from submission to completion, µs.
    pub read_latency: Histogram,
    /// How long writes and compare-and-writes took, µs.
    pub write_latency: Histogram,
    /// How long all other operations took, µs.
    pub other_latency: Histogram,
    /// The reason for which the last attempt to connect failed, or what else is wrong.
    pub last_error: Option<String>,
}

/// A bdev's state and counts, without the user's parameters: cheap to collect and to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BdevActivity {
    /// The bdev's state.
    pub state: BdevState,
    /// The time for which the bdev has had this state, ms.
    pub state_age_ms: u64,
    /// The device as the target last described it, or `None` before the first Welcome.
    pub device: Option<Device>,
    /// The number of established connections, including the control connection.
    pub connections: usize,
    /// The number of channels: threads that have the bdev open.
    pub channels: usize,
    /// The number of restarts of the target that may have lost completed writes.
    pub lost_caches: u64,
    /// The counts of all channels. Those of connections include the control connection.
    pub counts: Counts,
}
