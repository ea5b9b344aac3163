//! A bdev's parameters, and the module-wide defaults.

use dst_session::access::KeySource;
use dst_session::outage::OutageLimits;
use dst_wire::{Cipher, Digest};

use crate::attach::Wait;
use crate::places::TargetPlaces;

/// Times and depths: module-wide defaults, each of which a bdev can override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The time after its submission at which an unanswered I/O fails, ms. 1,000 to 86,400,000.
    pub transaction_timeout_ms: u32,
    /// How often an I/O is sent again, each time on another connection, before it fails; 0: as
    /// often as [`Options::transaction_timeout_ms`] allows.
    pub max_retries: u32,
    /// The longest time between two attempts to reach a lost target, ms. 10 to 60,000. The first
    /// attempt is made at once, the second after an eighth of this time, and each further one after
    /// twice the previous delay.
    pub reconnect_delay_ms: u32,
    /// The time without a connection from which on I/O fails at once, ms. Up to 86,400,000, and at
    /// least [`Options::reconnect_delay_ms`]; 0: never.
    pub fast_io_fail_timeout_ms: u32,
    /// The time without a connection after which the bdev is removed, ms. Up to 86,400,000, and at
    /// least [`Options::reconnect_delay_ms`] and [`Options::fast_io_fail_timeout_ms`]; 0: never.
    pub loss_timeout_ms: u32,
    /// The keep-alive time, ms. A target that is silent for this long counts as lost; a lease, for
    /// which the target executes requests of a silent client, has this length. 100 to 3,600,000;
    /// the target may grant less.
    pub keep_alive_timeout_ms: u32,
    /// How long `bdev_dst_create` waits for the target, ms. 10 to 3,600,000.
    pub attach_timeout_ms: u32,
    /// Transactions that a thread may have outstanding. 1 to 4,096; the target may grant less.
    pub queue_depth: u16,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            // Long enough for a reboot of the target.
            transaction_timeout_ms: 60_000,
            max_retries: 0,
            reconnect_delay_ms: 500,
            fast_io_fail_timeout_ms: 0,
            loss_timeout_ms: 0,
            // A dead target is noticed in less than 5 s.
            keep_alive_timeout_ms: 4000,
            attach_timeout_ms: 10_000,
            queue_depth: 256,
        }
    }
}

impl Options {
    /// Returns the times after which an outage has consequences.
    pub fn outage_limits(&self) -> OutageLimits {
        OutageLimits { fast_io_fail_ms: self.fast_io_fail_timeout_ms, loss_ms: self.loss_timeout_ms }
    }
}

/// A target, the export there, and how the client attaches the export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetParams {
    /// The places of the target. The first place that answers is used as long as it answers.
    pub at: TargetPlaces,
    /// The name of the export.
    pub export: String,
    /// This client's identity.
    pub host: String,
    /// The acceptable digests of data, the preferred one first.
    pub digests: Vec<Digest>,
    /// The source of the key that both sides share, of which the first key is used; `None`: no key.
    pub key: Option<KeySource>,
    /// The acceptable ciphers, the preferred one first; only [`Cipher::None`] without a key, and
    /// never with one.
    pub ciphers: Vec<Cipher>,
    /// SPDK's socket implementation; `None`: SPDK's choice.
    pub sock_impl: Option<String>,
    /// Whether this client is to own the export, so that no other host has a session.
    pub exclusive: bool,
}

/// The UUID of a bdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BdevUuid {
    /// A UUID that is derived from the export's, so that one process can have both this bdev and
    /// the exported one.
    Derived,
    /// The export's UUID, by which a raid or another layer above finds the bdev on every machine.
    /// No other bdev of the process may have it.
    Inherited,
}

/// A bdev to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BdevParams {
    /// The bdev's name.
    pub name: String,
    /// The target with the bdev's blocks.
    pub target: TargetParams,
    /// The bdev's UUID.
    pub uuid: BdevUuid,
    /// Times and depths.
    pub options: Options,
    /// When `bdev_dst_create` is answered.
    pub wait: Wait,
    /// Whether the client takes the export over, once, from its owner or from the hosts that share
    /// it. Only with [`TargetParams::exclusive`]. A saved configuration does not contain this parameter.
    pub takeover: bool,
}
