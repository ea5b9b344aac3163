//! Why a device has no metadata that can be used.

use thiserror::Error;

/// Why the metadata of a device cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// The device has none.
    #[error("it holds no metadata of a mirror")]
    Nothing,
    /// Both superblocks are damaged.
    #[error("its superblock is damaged: the CRC32C is {found:#010x}, computed {computed:#010x}")]
    Crc {
        /// The value in the superblock.
        found: u32,
        /// The value over its bytes.
        computed: u32,
    },
    /// A later DST wrote the metadata.
    #[error("its metadata have version {0}, this DST knows version 1")]
    Version(u32),
    /// A field of a superblock has a value that no mirror writes.
    #[error("its superblock has the field {0} with a value that is not allowed")]
    Field(&'static str),
    /// The superblock belongs to a device of another size that ends at the same place, for example a
    /// logical volume on this device.
    #[error("its superblock belongs to a device of {recorded} blocks, this one has {found}")]
    Place {
        /// The size in the superblock, in blocks.
        recorded: u64,
        /// The size of the device, in blocks.
        found: u64,
    },
    /// The device is a witness and was named as a member, or the other way round.
    #[error("it was named as a {}, and its superblock says otherwise", if *.0 { "witness" } else { "member" })]
    Role(bool),
    /// The device's blocks have another size than the mirror's.
    #[error("its blocks have {found} bytes, and those of its mirror {recorded}")]
    BlockSize {
        /// The size in the superblock, in bytes.
        recorded: u32,
        /// The size of the device's blocks, in bytes.
        found: u32,
    },
    /// A tree that the newest superblock names is damaged. The other superblock is older, and
    /// what it says may no longer be true.
    #[error("the tree of missed blocks of its member {0} is damaged")]
    Tree(usize),
}
