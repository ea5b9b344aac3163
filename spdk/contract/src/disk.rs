//! The properties of a new bdev.

/// The properties of a new bdev.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    /// The name of the bdev; not empty, without NUL.
    pub name: String,
    /// The product name, for human readers.
    pub product_name: &'static str,
    /// The UUID's bytes in SPDK's order. If all are zero, SPDK generates a UUID.
    pub uuid: [u8; 16],
    /// The block size in bytes.
    pub block_size: u32,
    /// The number of blocks.
    pub num_blocks: u64,
    /// A write must cover a multiple of this many blocks; 0 means 1.
    pub write_unit_size: u32,
    /// The optimal I/O boundary in blocks; 0: none.
    pub optimal_io_boundary: u32,
    /// Whether reads and writes are split at multiples of `optimal_io_boundary` before the disk
    /// gets them.
    pub split_on_boundary: bool,
    /// The maximum number of blocks of a compare-and-write; 0 means 1.
    pub acwu: u16,
    /// The power of two to which buffers should be aligned; 0: any address will do.
    pub required_alignment_log2: u8,
    /// Whether the bdev has a volatile write cache.
    pub write_cache: bool,
}
