//! I/O: its kind and its outcome.

/// The kind of an I/O.
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

/// The outcome of an I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoStatus {
    /// The I/O was executed.
    Success,
    /// The I/O was not executed, or only in part.
    Failed,
    /// The I/O was not begun because a resource was short; another attempt may succeed.
    Nomem,
    /// Compare-and-write found other data. Nothing was written.
    Miscompare,
    /// The I/O was aborted, for example by a reset.
    Aborted,
}
