//! What a user says of a bdev, and the module-wide defaults for what is left out.

use std::net::IpAddr;

use dst_session::access::KeySource;
use dst_wire::{Cipher, Digest};

/// Times and depths. Module-wide defaults, each of which a bdev can have otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long after its submission an I/O fails that was not answered, ms. 1,000 to 86,400,000.
    pub transaction_timeout_ms: u32,
    /// How often an I/O is sent again, each time on another connection, before it fails; 0: as often as its
    /// time allows.
    pub max_retries: u32,
    /// Longest time between two attempts to reach a lost target, ms. 10 to 60,000. The first is made at once, the
    /// next after an eighth of this, then after twice as long each time.
    pub reconnect_delay_ms: u32,
    /// After how long without a sign of life the target counts as lost, and how long it goes on executing
    /// what was sent by a client that it does not hear any more, ms. 100 to 3,600,000; the target may allow
    /// less.
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
            // A dead target is noticed in less than 5 s.
            keep_alive_timeout_ms: 4000,
            attach_timeout_ms: 10_000,
            queue_depth: 256,
        }
    }
}

/// Where a target is and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The target's addresses, one at least. The first that answers is used until it does not.
    pub addrs: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// The export.
    pub export: String,
    /// This client's identity.
    pub host: String,
    /// Digests of data that will do, the preferred one first.
    pub digests: Vec<Digest>,
    /// Where the key is that both sides share, the first one there; none: there is none.
    pub key: Option<KeySource>,
    /// Ciphers that will do, the preferred one first; only [`Cipher::None`] without a key, and never with one.
    pub ciphers: Vec<Cipher>,
    /// SPDK's socket implementation; none: SPDK's choice.
    pub sock_impl: Option<String>,
}

/// A bdev to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Its name.
    pub name: String,
    /// Where its blocks are.
    pub peer: Peer,
    /// Times and depths.
    pub options: Options,
    /// Whether to answer only when it is attached.
    pub wait: bool,
}
