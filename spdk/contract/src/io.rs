//! I/O: what it wants, and how it ended.

/// What an I/O wants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IoKind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush a volatile cache.
    Flush,
    /// Discard.
    Unmap,
    /// Write zeroes.
    WriteZeroes,
    /// Compare, and write if equal.
    CompareAndWrite,
    /// Abort all I/O of the bdev.
    Reset,
    /// Anything else; never submitted to a `Disk`.
    Other,
}

/// How an I/O ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoStatus {
    /// Done.
    Success,
    /// Not done, or only in part.
    Failed,
    /// Not begun, for lack of something; worth another try.
    Nomem,
    /// Compare-and-write found other data. Nothing was written.
    Miscompare,
    /// Aborted, by a reset for one.
    Aborted,
}
