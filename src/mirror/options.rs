//! What an operator may choose, with defaults and ranges.

use crate::regions::HOT_MAX;

/// The options of a mirror. Those under *memory* are fixed when the mirror begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Memory: the number of users' I/O at once, at most [`Options::IOS_MAX`].
    pub ios_max: u32,
    /// Memory: the number of buffers for copying, 1 to [`Options::COPY_SLOTS_MAX`].
    pub copy_slots: u16,
    /// Memory: the size of such a buffer in bytes: a multiple of the block size.
    pub copy_bytes: u32,
    /// Memory: the number of hot regions, 4 to half of [`HOT_MAX`]: after a crash, those of two records
    /// that follow each other have to fit into one.
    pub hot_max: usize,
    /// Memory: the number of ranges in the tree of what one member missed, at most
    /// `TREE_EXTENTS_MAX` of the metadata. At least twice as many as there are slots are used, and two:
    /// copies end in any order, and each may split a range.
    pub extents_max: usize,
    /// Memory, and only for a mirror that is created: the size of a region, as the binary logarithm of
    /// its number of blocks. `None`: what suits the size of the mirror.
    pub region_shift: Option<u32>,
    /// The maximum number of bytes that are copied in a second, 0: no limit.
    pub resync_rate: u64,
    /// Whether each copy waits for its turn ([`crate::Output::WantTurn`]), because the mirrors of a
    /// process have a rate in common.
    pub shares_rate: bool,
    /// The maximum number of bytes of the mirror that a verification compares in a second, 0: no limit.
    pub verify_rate: u64,
    /// The time in ms after which a member that does not answer is given up. 0: never.
    pub member_timeout_ms: u64,
    /// The time in ms between two flushes that the mirror makes by itself. Regions that were not
    /// written to for that long leave the intent log.
    pub flush_interval_ms: u64,
    /// The time in ms for which assembly waits for members in sync that are missing, if it may go on
    /// without them.
    pub degraded_wait_ms: u64,
    /// The time in ms after which a mirror that was told to stop is stopped, whatever is not written.
    pub stop_timeout_ms: u64,
}

impl Options {
    /// The maximum of [`Options::ios_max`].
    pub const IOS_MAX: u32 = 1 << 16;

    /// The maximum of [`Options::copy_slots`].
    pub const COPY_SLOTS_MAX: u16 = 64;

    /// Returns the number of ranges that a tree has at most.
    pub(crate) fn tree_max(&self) -> usize {
        self.extents_max.max(2 * usize::from(self.copy_slots) + 2)
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ios_max: 1024,
            copy_slots: 8,
            copy_bytes: 256 * 1024,
            // DRBD's al-extents has 1,237 of 4 MiB by default; here, a quarter is for one I/O.
            hot_max: HOT_MAX / 4,
            extents_max: 16 * 1024,
            region_shift: None,
            resync_rate: 0,
            shares_rate: false,
            // A tenth of what a link of 10 Gbit/s carries.
            verify_rate: 100 << 20,
            member_timeout_ms: 30_000,
            flush_interval_ms: 5_000,
            degraded_wait_ms: 5_000,
            stop_timeout_ms: 10_000,
        }
    }
}
