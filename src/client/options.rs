//! What a user says about a bdev, and the module-wide defaults.

use dst_session::access::KeySource;
use dst_session::outage::OutageLimits;
use dst_wire::{Cipher, Digest};

use crate::attach::Wait;
use crate::places::TargetPlaces;

/// Times and depths: module-wide defaults, each of which a bdev can override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The time from the submission of an I/O to its failure if it is not answered, ms. 1,000 to
    /// 86,400,000.
    pub transaction_timeout_ms: u32,
    /// How often an I/O is sent again, each time on another connection, before it fails; 0: as
    /// often as [`Options::transaction_timeout_ms`] allows.
    pub max_retries: u32,
    /// Longest time between two attempts to reach a lost target, ms. 10 to 60,000. The first is
    /// made at once, the next after an eighth of this, then after twice as long each time.
    pub reconnect_delay_ms: u32,
    /// The time without a connection from which on I/O fails at once, ms. Up to 86,400,000, and at
    /// least [`Options::reconnect_delay_ms`]; 0: never.
    pub fast_io_fail_timeout_ms: u32,
    /// The time without a connection after which the bdev is removed, ms. Up to 86,400,000, and at
    /// least the two before; 0: never.
    pub loss_timeout_ms: u32,
    /// The time without a sign of life after which the target counts as lost, and for which the
    /// target executes what was sent by a client from which it hears nothing, ms. 100 to 3,600,000;
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
            // Rides out a reboot of the target.
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
    /// Returns what is done about an outage, and when.
    pub fn outage_limits(&self) -> OutageLimits {
        OutageLimits { fast_io_fail_ms: self.fast_io_fail_timeout_ms, loss_ms: self.loss_timeout_ms }
    }
}

/// The address of a target, and what the client wants from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where the target is. The first place that answers is used until it does not.
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
    /// Whether this client owns the export: no other host has a session.
    pub exclusive: bool,
}

/// The UUID of a bdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BdevUuid {
    /// A UUID that is made of the export's, so that a process can have both the bdev and the export's
    /// own.
    Derived,
    /// The export's UUID, by which a raid or another layer above finds the bdev on every machine.
    /// No other bdev of the process may have it.
    Inherited,
}

/// A bdev to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// The bdev's name.
    pub name: String,
    /// Where the bdev's blocks are.
    pub peer: Peer,
    /// The bdev's UUID.
    pub uuid: BdevUuid,
    /// Times and depths.
    pub options: Options,
    /// When `bdev_dst_create` is answered.
    pub wait: Wait,
    /// Whether the client takes the export over from its owner or from those who share it, once. Only
    /// with [`Peer::exclusive`]. A saved configuration does not have it.
    pub takeover: bool,
}
