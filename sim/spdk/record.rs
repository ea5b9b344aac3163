//! The record of what happened, in order, for the checkers.

use spdk_contract::io::IoStatus;
use world::slots::Slot;
use world::store::{self, Fact};
use world::{World, with};

/// An event that a checker may want to know of.
#[derive(Debug)]
pub enum Record {
    /// A client has registered a bdev.
    DiskIsThere {
        /// The stamp of the event.
        seq: u64,
        /// The client's process.
        process: u32,
        /// The bdev's number.
        disk: u64,
        /// The bdev's name.
        name: String,
    },
    /// Users of a bdev are asked to close it.
    DiskGoes {
        /// The stamp of the event.
        seq: u64,
        /// The bdev's number.
        disk: u64,
    },
    /// A bdev is gone.
    DiskGone {
        /// The stamp of the event.
        seq: u64,
        /// The bdev's number.
        disk: u64,
    },
    /// A bdev's size has changed.
    DiskResized {
        /// The stamp of the event.
        seq: u64,
        /// The bdev's number.
        disk: u64,
        /// The new size, in blocks.
        num_blocks: u64,
    },
    /// A user's I/O was passed to the code under test.
    Submitted {
        /// The stamp of the event.
        seq: u64,
        /// The I/O's number.
        io: u64,
        /// The time on its process's clock, µs.
        clock_us: u64,
    },
    /// A user's I/O has completed.
    Completed {
        /// The stamp of the event.
        seq: u64,
        /// The I/O's number.
        io: u64,
        /// The outcome.
        status: IoStatus,
        /// The data that was read.
        data: Vec<u8>,
        /// Whether SPDK's bdev layer completed the I/O, so that the code under test never saw it.
        by_layer: bool,
        /// Whether the I/O completed on the thread that submitted it.
        on_its_thread: bool,
    },
    /// Something happened in a store.
    Stored(Fact),
}

impl Record {
    /// Returns the stamp of the event.
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

/// The records that were not taken yet.
#[derive(Default)]
struct Records(Vec<Record>);

impl Slot for Records {}

/// Adds a record, with the stamp of this moment.
pub(crate) fn record(w: &mut World, record: impl FnOnce(u64) -> Record) {
    let seq = w.stamp();
    w.slots.get::<Records>().0.push(record(seq));
}

/// Returns the records since the last call.
pub fn take() -> Vec<Record> {
    let mut records = with(|w| std::mem::take(&mut w.slots.get::<Records>().0));
    let facts = store::take_facts();
    // Mostly there are none, and this is asked in each step.
    if !facts.is_empty() {
        records.extend(facts.into_iter().map(Record::Stored));
        records.sort_by_key(Record::seq);
    }
    records
}
