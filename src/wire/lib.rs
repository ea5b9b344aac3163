//! DST's wire format: every byte that crosses the network, and nothing else.
//!
//! A connection carries *frames* in both directions. A frame is a [`Header`] of [`HEADER_LEN`]
//! bytes, followed by [`Header::data_len`] bytes of data. The header's [`Kind`] determines what the
//! data is: type-length-value attributes for the messages of the handshake and for events
//! ([`attribute`]), or the blocks themselves for requests and answers.
//!
//! Integers are little-endian, as in NVMe. `docs/protocol.md` is the specification; this crate is
//! one implementation of it.
//!
//! This crate does no I/O, reads no clock and does not trust its input: a decoder returns an error
//! for every byte string that is not a message, and never panics.

#![forbid(unsafe_code)]

pub mod attribute;
mod codes;
mod crc;
mod device;
mod error;
mod event;
mod header;
pub mod hello;
mod name;
mod op;
mod ownership;
mod previous;
mod protection;
mod refusal;
pub mod secure;
mod session_ref;
mod status;
#[cfg(test)]
mod testing;
mod uuid;
mod welcome;

pub use crc::Crc32c;
pub use device::{BLOCK_SIZES, Device};
pub use error::{AttributeRef, WireError};
pub use event::{Event, EventCode};
pub use header::{Flags, HEADER_LEN, Header, Kind};
pub use hello::{Hello, OFFERS_MAX};
pub use name::{NAME_MAX, is_name};
pub use op::{Class, Description, InNewSession, Op, OpSet};
pub use ownership::{Claim, Ownership};
pub use previous::Previous;
pub use protection::{Cipher, Digest};
pub use refusal::{Refusal, RefusalReason, TEXT_MAX};
pub use session_ref::SessionRef;
pub use status::Status;
pub use uuid::uuid_text;
pub use welcome::Welcome;

use std::ops::RangeInclusive;

/// The protocol version that this crate speaks. A client offers a range, the target chooses.
pub const VERSION: u16 = 1;

/// The maximum size of the attributes of a handshake message or an event, in bytes.
///
/// An unauthenticated peer may send this much, so the limit is small. A hello with every attribute
/// and two names of [`NAME_MAX`] takes less than 700 bytes.
pub const ATTRIBUTES_MAX: u32 = 4096;

/// The maximum size of any frame's data, whatever is negotiated: 16 MiB.
///
/// Twice the largest [`Welcome::max_transfer`], because a compare-and-write carries its range
/// twice: the expected blocks and the new ones.
pub const DATA_MAX: u32 = 2 * TRANSFER_MAX;

/// The largest transfer that a target may offer, in bytes: 8 MiB.
pub const TRANSFER_MAX: u32 = 8 << 20;

/// The maximum number of transactions that may be outstanding on one connection.
///
/// The low 16 bits of a transaction's id, its slot, could hold more; 4,096 is eight times what a
/// fast device takes.
pub const CREDITS_MAX: u16 = 4096;

/// The keep-alive times that a target may choose, in milliseconds: 100 ms to an hour.
///
/// A shorter time mistakes a busy reactor for a dead peer; a longer one holds the resources of a
/// vanished peer for too long.
pub const KEEP_ALIVE_MS: RangeInclusive<u32> = 100..=3_600_000;
