//! Stores: the disks, the content of their blocks, and the operations in progress.
//!
//! A block's bytes are a function of the number of the user's write and of the block's number. So a
//! store keeps only numbers, and notices at once if the bytes for a block are not those of a single
//! write.

use std::collections::BTreeSet;

/// The properties of a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The UUID.
    pub uuid: [u8; 16],
    /// The block size in bytes.
    pub block_size: u32,
    /// The number of blocks.
    pub num_blocks: u64,
    /// Whether writes may be lost in a crash until they are flushed.
    pub write_cache: bool,
    /// Whether the store is part of the process that uses it, and stops and dies with it. Otherwise
    /// it continues.
    pub in_process: bool,
    /// How long an operation takes, in µs: shortest and longest.
    pub latency_us: (u64, u64),
    /// How many of 1,000 operations fail.
    pub errors: u64,
    /// Whether a reset also ends operations that hang.
    pub reset_works: bool,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Make earlier writes durable.
    Flush,
    /// Discard.
    Unmap,
    /// Write zeroes.
    WriteZeroes,
    /// Compare, and write if equal.
    CompareAndWrite,
    /// End all other operations of the same process.
    Reset,
}

impl Action {
    /// Returns whether the action changes blocks.
    pub fn modifies(self) -> bool {
        matches!(self, Action::Write | Action::Unmap | Action::WriteZeroes | Action::CompareAndWrite)
    }
}

/// The outcome of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The operation was executed.
    Success,
    /// The operation was not executed, or only in part.
    Failed,
    /// The compared data differs. Nothing was written.
    Miscompare,
    /// A reset ended the operation.
    Aborted,
}

/// The content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The user's write that the content is from; 0: nobody has written the block.
    pub write: u64,
    /// Whether the block reads as zeroes.
    pub zero: bool,
}

/// The content of a block that nobody has written to.
pub(crate) const EMPTY: Content = Content { write: 0, zero: true };

/// The content that a block has from a given moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    /// The world's stamp of that moment.
    pub from: u64,
    pub content: Content,
}

pub(crate) struct Block {
    pub versions: Vec<Version>,
    /// The version that survives a crash.
    pub durable: usize,
}

impl Block {
    /// Returns a block that is empty since the given moment.
    pub fn empty(from: u64) -> Block {
        Block { versions: vec![Version { from, content: EMPTY }], durable: 0 }
    }

    /// Returns the current content.
    pub fn content(&self) -> Content {
        self.versions.last().map_or(EMPTY, |version| version.content)
    }
}

pub(crate) struct Store {
    pub config: StoreConfig,
    pub blocks: Vec<Block>,
    pub hung: bool,
    /// Operations that hang although the store does not.
    pub stuck: BTreeSet<u64>,
    pub held: Vec<u64>,
    /// Announced writes without data, by action and range, each with the number of the user's
    /// write.
    pub expected: Vec<((Action, u64, u64), u64)>,
}

/// The layer above's side of an operation in progress.
pub trait PendingIo {
    /// Returns the operation's data.
    fn data(&mut self) -> &mut [u8];

    /// Completes the operation. Called on the thread that submitted it.
    fn done(self: Box<Self>, status: Status);
}

/// An operation that is given to a store.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The store.
    pub store: u32,
    /// What the operation does.
    pub action: Action,
    /// The first block.
    pub offset: u64,
    /// The number of blocks.
    pub count: u64,
    /// Whether the operation must not change anything.
    pub read_only: bool,
}

/// An operation in progress.
pub(crate) struct Operation {
    pub process: u32,
    /// The thread that submitted the operation; 0: that thread's process is dead.
    pub thread: u64,
    pub request: Request,
    pub io: Option<Box<dyn PendingIo>>,
    pub status: Status,
    pub executed: bool,
    /// The number of the user's write that the operation is from; 0: none.
    pub write: u64,
}

/// The user's I/O that an operation is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// None: the operation changes nothing.
    Nothing,
    /// This write of the user.
    Write(u64),
    /// The data is not that of a single write to these blocks.
    Mixed,
    /// The operation has no data, and no user asked for it.
    Unasked,
}

impl Origin {
    /// Returns the number of the user's write; 0: none.
    pub fn write(self) -> u64 {
        match self {
            Origin::Write(write) => write,
            Origin::Nothing | Origin::Mixed | Origin::Unasked => 0,
        }
    }
}

/// An event in a store. Its time is a stamp of the world.
#[derive(Debug, Clone, Copy)]
pub enum Fact {
    /// A process gave a store an operation.
    Handed {
        /// The stamp of the event.
        seq: u64,
        /// The process.
        process: u32,
        /// The operation.
        request: Request,
        /// The user's I/O that the operation is from.
        origin: Origin,
    },
    /// A store changed blocks, or executed a compare-and-write that found other data.
    Executed {
        /// The stamp of the event.
        seq: u64,
        /// The process.
        process: u32,
        /// The operation.
        request: Request,
        /// The number of blocks that changed.
        count: u64,
        /// The number of the user's write.
        write: u64,
    },
    /// A store lost a write.
    Lost {
        /// The stamp of the event.
        seq: u64,
        /// The store.
        store: u32,
        /// The block.
        block: u64,
        /// The number of the user's write.
        write: u64,
    },
}
