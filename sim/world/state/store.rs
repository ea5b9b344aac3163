//! Stores: the disks, what their blocks hold, and the operations that are under way in them.
//!
//! A block's bytes are a function of the number of the user's write and of the block, so a store
//! keeps numbers only, and sees at once when bytes are not what one write wrote to one block.

use std::collections::BTreeSet;

/// What a store is like.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Its identity.
    pub uuid: [u8; 16],
    /// Bytes.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Writes may be lost in a crash until they are flushed.
    pub write_cache: bool,
    /// It is part of the process that uses it: it stops and dies with it. Else it goes on.
    pub in_process: bool,
    /// How long an operation takes, µs: from, to.
    pub latency_us: (u64, u64),
    /// Of 1000 operations, how many fail.
    pub errors: u64,
    /// Whether a reset ends also operations that hang.
    pub reset_works: bool,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Make durable what was written.
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
    /// Returns whether it changes blocks.
    pub fn modifies(self) -> bool {
        matches!(self, Action::Write | Action::Unmap | Action::WriteZeroes | Action::CompareAndWrite)
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Success,
    /// Not done, or only in part.
    Failed,
    /// The compared data differs. Nothing was written.
    Miscompare,
    /// Ended by a reset.
    Aborted,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The user's write that it is from; 0: nobody has written.
    pub write: u64,
    /// It reads as zeroes.
    pub zero: bool,
}

/// What a block holds that nobody has written to.
pub(crate) const EMPTY: Content = Content { write: 0, zero: true };

/// What a block held from a moment on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    /// A stamp of the world.
    pub from: u64,
    pub content: Content,
}

pub(crate) struct Block {
    pub versions: Vec<Version>,
    /// The version that survives a crash.
    pub durable: usize,
}

impl Block {
    /// Returns a block that is empty from a moment on.
    pub fn empty(from: u64) -> Block {
        Block { versions: vec![Version { from, content: EMPTY }], durable: 0 }
    }

    /// Returns what it holds now.
    pub fn content(&self) -> Content {
        self.versions.last().map_or(EMPTY, |version| version.content)
    }
}

pub(crate) struct Store {
    pub config: StoreConfig,
    pub blocks: Vec<Block>,
    pub hung: bool,
    /// Operations that hang although the store goes on.
    pub stuck: BTreeSet<u64>,
    pub held: Vec<u64>,
    /// Writes without data, by action and range: which of the user's they are.
    pub expected: Vec<((Action, u64, u64), u64)>,
}

/// What the layer above has under way in a store.
pub trait PendingIo {
    /// Returns its data.
    fn data(&mut self) -> &mut [u8];

    /// Ends it. Called on the thread that submitted it.
    fn done(self: Box<Self>, status: Status);
}

/// An operation that a store is given.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The store.
    pub store: u32,
    /// What it does.
    pub action: Action,
    /// First block.
    pub offset: u64,
    /// Blocks.
    pub count: u64,
    /// Whether it must not change anything.
    pub read_only: bool,
}

/// An operation under way.
pub(crate) struct Operation {
    pub process: u32,
    /// 0: nobody is left to be told.
    pub thread: u64,
    pub request: Request,
    pub io: Option<Box<dyn PendingIo>>,
    pub status: Status,
    pub executed: bool,
    /// Of the user's writes, which it is; 0: none.
    pub write: u64,
}

/// Where the data of an operation is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It changes nothing.
    Nothing,
    /// It is this write of the user's.
    Write(u64),
    /// Its data is not that of one write to these blocks.
    Mixed,
    /// It has no data, and nobody asked for it.
    Unasked,
}

impl Origin {
    /// Returns the user's write; 0: none.
    pub fn write(self) -> u64 {
        match self {
            Origin::Write(write) => write,
            Origin::Nothing | Origin::Mixed | Origin::Unasked => 0,
        }
    }
}

/// What happened in a store, and when: a stamp of the world.
#[derive(Debug, Clone, Copy)]
pub enum Fact {
    /// A process gave a store an operation.
    Handed {
        /// When.
        seq: u64,
        /// The process.
        process: u32,
        /// The operation.
        request: Request,
        /// Whose data it has.
        origin: Origin,
    },
    /// A store changed blocks, or would have: a compare-and-write that found others.
    Executed {
        /// When.
        seq: u64,
        /// The process.
        process: u32,
        /// The operation.
        request: Request,
        /// Blocks that it changed.
        count: u64,
        /// The user's write.
        write: u64,
    },
    /// A store forgot a write.
    Lost {
        /// When.
        seq: u64,
        /// The store.
        store: u32,
        /// The block.
        block: u64,
        /// The user's write.
        write: u64,
    },
}
