//! DST's protocol engine: the decisions of both sides, without their execution.
//!
//! Headers, addresses and times go in; decisions, headers and deadlines come out. This crate does
//! no I/O, reads no clock and does not touch the blocks themselves, so it can be tested without a
//! network. Times are in microseconds of any monotonic clock.
//!
//! | module | subject | side |
//! | --- | --- | --- |
//! | [`deframer`] | splits the byte stream into headers and runs of data | both |
//! | [`transactions`] | the slab of outstanding transactions and their order on the wire | client |
//! | [`addresses`] | which of a target's addresses is tried when | client |
//! | [`paths`] | which of a target's addresses a channel uses | client |
//! | [`homing`] | when a channel goes back to its own address | client |
//! | [`large_frames`] | whether a path loses large packets | client |
//! | [`retry`] | when to try again to connect | client |
//! | [`patience`] | the clock of deadlines | client |
//! | [`outage`] | how long a client waits for a target that it can't reach | client |
//! | [`succession`] | which session a client's channels may join | client |
//! | [`stop`] | how long a client waits once its process was told to stop | client |
//! | [`tenure`] | what a client claims of the ownership of its export | client |
//! | [`deadline`] | when I/O ends without an answer | client |
//! | [`fence`] | whether what was sent on lost connections may fail | client |
//! | [`reset`] | one channel's part in a reset of the bdev | client |
//! | [`durability`] | which writes a target's restart may have lost | client |
//! | [`device_change`] | what a target's events mean for the device | client |
//! | [`access`] | access rights of hosts | target |
//! | [`negotiate`] | choosing what a hello offers, and checking the welcome | both |
//! | [`slots`] | which transactions are executing or were answered | target |
//! | [`request`] | whether a request can be executed | target |
//! | [`holds`] | requests that were aborted while the backend has them, and what waits for them | target |
//! | [`parts`] | the parts in which long operations are executed | target |
//! | [`reexecution`] | which I/O that a reset ended is executed again | target |
//! | [`silence`] | when to give up a silent peer | both |
//! | [`counts`] | what a client counts | client |
//! | [`histogram`] | histograms of latencies | both |
//! | [`rate`] | a limit on log lines that a peer causes | both |
//! | [`lease`] | how long a target executes what a connection sends | both |
//! | [`traced`] | how a trace names a transaction | both |
//! | [`mutation`] | protections that the simulator removes, to test itself | both |

#![forbid(unsafe_code)]

pub mod access;
pub mod addresses;
pub mod counts;
pub mod deadline;
pub mod deframer;
pub mod device_change;
pub mod durability;
pub mod fence;
pub mod histogram;
pub mod holds;
pub mod homing;
pub mod large_frames;
pub mod lease;
pub mod mutation;
pub mod negotiate;
pub mod outage;
pub mod parts;
pub mod paths;
pub mod patience;
pub mod rate;
pub mod reexecution;
pub mod request;
pub mod reset;
pub mod retry;
pub mod silence;
pub mod slots;
pub mod stop;
pub mod succession;
pub mod tenure;
pub mod traced;
pub mod transactions;

use thiserror::Error;

/// A violation of the protocol by the peer. The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// The bytes are not a message.
    #[error(transparent)]
    Wire(#[from] dst_wire::WireError),
    /// The protocol does not allow this frame in the current state of the connection.
    #[error("a frame of kind {0:?} is not allowed in this state of the connection")]
    Unexpected(dst_wire::Kind),
    /// The number of a keep-alive is not higher than the previous one.
    #[error("keep-alive {id} came after keep-alive {last}; the numbers must rise")]
    KeepAlive {
        /// The number of the keep-alive.
        id: u64,
        /// The number of the previous keep-alive.
        last: u64,
    },
    /// Data came without a digest although one was agreed, or with a digest although none was.
    #[error("transaction {0:#x} carries data {with} a digest, which is not what was agreed", with = if *.1 { "with" } else { "without" })]
    Digest(u64, bool),
    /// The data of a transaction was corrupt each time it was sent.
    #[error("the data of transaction {0:#x} did not match its digest {1} times")]
    Corrupt(u64, u32),
    /// The slot was not granted.
    #[error("transaction {id:#x} uses slot {slot}, but only {credits} slots were granted")]
    Slot {
        /// The transaction.
        id: u64,
        /// The slot of the transaction.
        slot: u16,
        /// The number of slots granted.
        credits: u16,
    },
    /// The slot is in use by an unanswered transaction.
    #[error("transaction {id:#x} uses the slot of transaction {other:#x}, which is not answered yet")]
    SlotBusy {
        /// The transaction.
        id: u64,
        /// The transaction that has the slot.
        other: u64,
    },
    /// The sequence went backwards.
    #[error("transaction {id:#x} is older than {last:#x}, the last one in its slot")]
    Old {
        /// The transaction.
        id: u64,
        /// The newest transaction that the slot has seen.
        last: u64,
    },
    /// The answer's transaction is not outstanding, or not completely sent yet.
    #[error("an answer came to transaction {0:#x}, which is not waiting for one")]
    Answer(u64),
    /// The transaction that is said to be held was not aborted, or was answered.
    #[error("transaction {0:#x} is said to be held, but was not aborted")]
    Held(u64),
    /// The amount of data in a frame does not match its transaction.
    #[error("transaction {id:#x} carries {found} bytes of data, but should carry {expected}")]
    Data {
        /// The transaction.
        id: u64,
        /// The announced number of bytes.
        found: u32,
        /// The number of bytes that the transaction has.
        expected: u64,
    },
}
