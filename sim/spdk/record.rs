//! What happened, in the order in which it did, for who checks it.

use spdk_contract::io::IoStatus;
use world::slots::Slot;
use world::store::{self, Fact};
use world::{World, with};

/// What happened, in this order.
#[derive(Debug)]
pub enum Record {
    /// A client has a bdev.
    DiskIsThere {
        /// When.
        seq: u64,
        /// Its process.
        process: u32,
        /// Its number.
        disk: u64,
        /// Its name.
        name: String,
    },
    /// Users of a bdev are asked to close it.
    DiskGoes {
        /// When.
        seq: u64,
        /// Its number.
        disk: u64,
    },
    /// A bdev is gone.
    DiskGone {
        /// When.
        seq: u64,
        /// Its number.
        disk: u64,
    },
    /// A bdev has another size.
    DiskResized {
        /// When.
        seq: u64,
        /// Its number.
        disk: u64,
        /// Blocks.
        num_blocks: u64,
    },
    /// A user's I/O was given to the code under test.
    Submitted {
        /// When.
        seq: u64,
        /// Its number.
        io: u64,
    },
    /// It came back.
    Completed {
        /// When.
        seq: u64,
        /// Its number.
        io: u64,
        /// How it ended.
        status: IoStatus,
        /// What was read.
        data: Vec<u8>,
        /// SPDK's bdev layer ended it, the code under test never saw it.
        by_layer: bool,
        /// On the thread that submitted it.
        on_its_thread: bool,
    },
    /// Something happened in a store.
    Stored(Fact),
}

impl Record {
    /// Returns when it was, a stamp of the world.
    pub fn seq(&self) -> u64 {
        match self {
            Record::DiskIsThere { seq, .. }
            | Record::DiskGoes { seq, .. }
            | Record::DiskGone { seq, .. }
            | Record::DiskResized { seq, .. }
            | Record::Submitted { seq, .. }
            | Record::Completed { seq, .. }
            | Record::Stored(
                Fact::Handed { seq, .. } | Fact::Executed { seq, .. } | Fact::Lost { seq, .. },
            ) => *seq,
        }
    }
}

/// What happened and was not asked for yet.
#[derive(Default)]
struct Records(Vec<Record>);

impl Slot for Records {}

/// Keeps a record, with the stamp of this moment.
pub(crate) fn record(w: &mut World, record: impl FnOnce(u64) -> Record) {
    let seq = w.stamp();
    w.slots.get::<Records>().0.push(record(seq));
}

/// Returns what happened since the last call.
pub fn take() -> Vec<Record> {
    let mut records = with(|w| std::mem::take(&mut w.slots.get::<Records>().0));
    records.extend(store::take_facts().into_iter().map(Record::Stored));
    records.sort_by_key(Record::seq);
    records
}
