//! The bdev module that SPDK knows, and its bdevs.

pub use crate::disk::{DestructDone, Disk, DiskInfo};
pub use crate::disks::{Registered, register};
