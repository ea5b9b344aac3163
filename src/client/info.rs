//! A bdev as `bdev_dst_get_info` shows it.

use dst_wire::Device;

use crate::options::Params;

/// What is known of a bdev at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What the user asked for.
    pub params: Params,
    /// `attaching`, `connected`, `reconnecting` or `failed`.
    pub state: &'static str,
    /// What the target said of the device, once it did.
    pub device: Option<Device>,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// Transactions granted to a connection.
    pub credits: u16,
    /// Connections that are up, the session's first included.
    pub connections: usize,
    /// Channels: threads that have the bdev open.
    pub channels: usize,
    /// Transactions begun.
    pub transactions: u64,
    /// Transactions that ended with an error.
    pub errors: u64,
    /// Connections lost.
    pub lost: u64,
    /// Connections made after one was lost.
    pub reconnects: u64,
    /// Transactions sent again.
    pub resent: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}
