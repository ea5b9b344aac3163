//! A bdev as `bdev_dst_get_info` shows it.

use dst_session::counts::Counts;
use dst_session::histogram::Histogram;
use dst_wire::{Cipher, Device, Digest};

use crate::options::Params;
use crate::places::PathState;

/// The state of a bdev, for users.
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
    /// The device can't be had any more.
    Failed,
}

/// What is known of one of a target's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The address.
    pub address: String,
    /// The state of the path to it.
    pub state: PathState,
    /// Connections to it that are up, the control connection included.
    pub connections: usize,
    /// Connections to it that were lost.
    pub losses: u64,
    /// What is wrong with the path, or why the last attempt failed or the last connection was lost;
    /// `None` once another one was admitted.
    pub last_error: Option<String>,
}

/// What is known of a bdev at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What the user asked for.
    pub params: Params,
    /// The target's address that is in use; `None`: its names were not resolved yet.
    pub address: Option<String>,
    /// What is known of each of the target's addresses, in the user's order.
    pub paths: Vec<PathInfo>,
    /// The bdev's state.
    pub state: BdevState,
    /// For how long the bdev has had this state, ms.
    pub state_age_ms: u64,
    /// What the target last said of the device, if it did.
    pub device: Option<Device>,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// Transactions granted to a connection.
    pub credits: u16,
    /// The keep-alive time, which is the length of a lease, ms.
    pub keep_alive_ms: u32,
    /// Connections that are up, the control connection included.
    pub connections: usize,
    /// Channels: threads that have the bdev open.
    pub channels: usize,
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
    /// The digest in use.
    pub digest: Digest,
    /// The cipher in use.
    pub cipher: Cipher,
    /// The number of the client's ownership of the export, the last one that it had.
    pub ownership: Option<u64>,
    /// How often a restart of the target may have lost completed writes.
    pub lost_caches: u64,
    /// Transactions outstanding now.
    pub outstanding: u64,
    /// I/O that waits now, for a connection or for others to end.
    pub waiting: u64,
    /// How long reads took, from submission to completion, µs.
    pub read_latency: Histogram,
    /// How long writes and compare-and-writes took, µs.
    pub write_latency: Histogram,
    /// How long all other operations took, µs.
    pub other_latency: Histogram,
    /// Why the last attempt to connect failed, or what else is wrong.
    pub last_error: Option<String>,
}

/// What a bdev does and has done, without what its user asked for: cheap to take and to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// The bdev's state.
    pub state: BdevState,
    /// For how long the bdev has had this state, ms.
    pub state_age_ms: u64,
    /// What the target last said of the device, if it did.
    pub device: Option<Device>,
    /// Connections that are up, the control connection included.
    pub connections: usize,
    /// Channels: threads that have the bdev open.
    pub channels: usize,
    /// How often a restart of the target may have lost completed writes.
    pub lost_caches: u64,
    /// The counts of all channels. Those of connections include the control connection.
    pub counts: Counts,
}
