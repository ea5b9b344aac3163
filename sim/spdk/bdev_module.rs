//! The bdev module that SPDK knows. The disks it registers are in [`disk`](crate::disk).

pub use crate::disk::{DestructDone, Disk, DiskInfo, Registered, register};
