//! The format on disk.
//!
//! The metadata of a device are at its end. A *superblock* of 4 KiB has all but the trees; there are
//! two, written alternately with one write each, so that a write that is torn or lost leaves the
//! other one. Each member's tree of missed blocks has two places as well. A tree is written and flushed
//! before the superblock that names it, with its number and its CRC32C, and its other place is
//! left alone until that superblock is durable. So what is read is always one record, and never a
//! mixture of two. `docs/mirror.md` has the layout in full.
//!
//! [`Loader`] reads the metadata of a device, [`Search`] looks for them, and [`Area`] says what to write
//! where.

mod area;
mod error;
mod layout;
mod loader;
mod record;
mod search;
mod superblock;
#[cfg(test)]
mod testing;
mod tree;

pub use area::{Area, Update, Write};
pub use error::MetadataError;
pub use layout::{Layout, LayoutError, METADATA_BYTES, SUPERBLOCK_BYTES, WITNESS_BYTES};
pub use loader::{Load, Loaded, Loader};
pub use record::Record;
pub use search::{Found, SEARCH_BYTES, Search, SearchStep};
pub use tree::TREE_EXTENTS_MAX;
