//! The bdev module's API: how the code under test registers bdevs.

pub use crate::disk::{DestructDone, Disk, DiskInfo};
pub use crate::disks::{Registered, register};
