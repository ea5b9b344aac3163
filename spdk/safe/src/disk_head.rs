//! What disks of all types have in common.

use spdk_sys as sys;

/// What a disk of any type has, at the address of its bdev.
#[repr(C)]
pub(crate) struct Head {
    pub(crate) bdev: sys::spdk_bdev,
    /// The thread that registered the bdev.
    pub(crate) home: *mut sys::spdk_thread,
}

/// Returns the thread that registered a bdev.
///
/// # Safety
/// `bdev` is a disk of this module that is not destroyed.
#[inline]
pub(crate) unsafe fn home(bdev: *mut sys::spdk_bdev) -> *mut sys::spdk_thread {
    // SAFETY: the caller guarantees this; such a bdev is the first member of a `Head`.
    unsafe { (*bdev.cast::<Head>()).home }
}
