//! What a new bdev is like.

/// What a new bdev is like.
#[derive(Clone, Debug)]
pub struct DiskInfo {
    /// Name of the bdev; not empty, no NUL.
    pub name: String,
    /// The kind of product, for people to read.
    pub product_name: &'static str,
    /// Raw bytes, in SPDK's order; all zero: SPDK makes one up.
    pub uuid: [u8; 16],
    /// Bytes.
    pub block_size: u32,
    /// Blocks.
    pub num_blocks: u64,
    /// Blocks that a write must be a multiple of; 0 means 1.
    pub write_unit_size: u32,
    /// Blocks; 0: none.
    pub optimal_io_boundary: u32,
    /// SPDK splits reads and writes at multiples of `optimal_io_boundary`.
    pub split_on_boundary: bool,
    /// Blocks that compare-and-write takes at most; 0 means 1.
    pub acwu: u16,
    /// It has a volatile write cache.
    pub write_cache: bool,
}
