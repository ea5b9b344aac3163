//! DST's protocol engine: what both sides decide, without doing it.
//!
//! Headers, addresses and time go in; decisions, headers and deadlines come out. Nothing here does I/O,
//! reads a clock, or touches the blocks themselves, which is why it can be tested without a network.
//! Times are microseconds of any clock that only goes forward.
//!
//! | module | what | side |
//! | --- | --- | --- |
//! | [`deframer`] | splits the byte stream into headers and runs of data | both |
//! | [`transactions`] | the slab of outstanding transactions and their order on the wire | client |
//! | [`retry`] | when to try again | client |
//! | [`patience`] | the time that deadlines are counted in | client |
//! | [`deadline`] | when I/O ends without an answer | client |
//! | [`fence`] | whether what was sent on lost connections may fail | client |
//! | [`reset`] | one channel's part in a reset of the bdev | client |
//! | [`durability`] | which writes a target's restart may have lost | client |
//! | [`device_change`] | what a target's events mean for the device | client |
//! | [`access`] | which host may do what from which address | target |
//! | [`negotiate`] | what a hello is answered with | both |
//! | [`slots`] | which transactions are executing or were answered | target |
//! | [`request`] | whether a request is one that can be executed | target |
//! | [`silence`] | when to give a silent peer up | both |
//! | [`histogram`] | latencies, counted | both |
//! | [`rate`] | how many log lines a peer can cause | both |
//! | [`lease`] | until when a target executes what a connection sends | both |
//! | [`mutation`] | protections that the simulator takes away, to see that it notices | both |

#![forbid(unsafe_code)]

pub mod access;
pub mod deadline;
pub mod deframer;
pub mod device_change;
pub mod durability;
pub mod fence;
pub mod histogram;
pub mod lease;
pub mod mutation;
pub mod negotiate;
pub mod patience;
pub mod rate;
pub mod request;
pub mod reset;
pub mod retry;
pub mod silence;
pub mod slots;
pub mod transactions;

use thiserror::Error;

/// What a peer may not do. The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// Bytes that are no message.
    #[error(transparent)]
    Wire(#[from] dst_wire::WireError),
    /// A frame that has no place in this state of the connection.
    #[error("a frame of kind {0:?} has no place here")]
    Unexpected(dst_wire::Kind),
    /// A keep-alive whose number does not rise.
    #[error("keep-alive {id} after keep-alive {last}")]
    KeepAlive {
        /// Its number.
        id: u64,
        /// The number of the one before.
        last: u64,
    },
    /// Data without a digest although one was agreed, or with one although none was.
    #[error("transaction {0:#x} carries data {with} a digest, which is not what was agreed", with = if *.1 { "with" } else { "without" })]
    Digest(u64, bool),
    /// Data that was corrupt each time.
    #[error("the data of transaction {0:#x} did not match its digest {1} times")]
    Corrupt(u64, u32),
    /// A slot that was not granted.
    #[error("transaction {id:#x} uses slot {slot}, {credits} were granted")]
    Slot {
        /// The transaction.
        id: u64,
        /// Its slot.
        slot: u16,
        /// Slots granted.
        credits: u16,
    },
    /// A slot that is in use by an unanswered transaction.
    #[error("transaction {id:#x} uses the slot of {other:#x}, which is not answered yet")]
    SlotBusy {
        /// The transaction.
        id: u64,
        /// The one that has the slot.
        other: u64,
    },
    /// A sequence that goes backwards.
    #[error("transaction {id:#x} is older than {last:#x}, the last one in its slot")]
    Old {
        /// The transaction.
        id: u64,
        /// The newest one that its slot has seen.
        last: u64,
    },
    /// An answer to something that was not asked, or not completely sent yet.
    #[error("an answer to transaction {0:#x}, which is not waiting for one")]
    Answer(u64),
    /// A frame with another amount of data than its transaction has.
    #[error("transaction {id:#x} carries {found} bytes of data, it has {expected}")]
    Data {
        /// The transaction.
        id: u64,
        /// Bytes announced.
        found: u32,
        /// Bytes that it has.
        expected: u64,
    },
}
