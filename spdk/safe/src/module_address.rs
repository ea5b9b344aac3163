//! The address of the bdev module's structure, which SPDK needs for each bdev that the module
//! registers.

use std::sync::OnceLock;

use spdk_sys as sys;

/// The structure is never freed: SPDK keeps it in a list.
struct Address(*mut sys::spdk_bdev_module);

// SAFETY: SPDK guards its structure; this crate only passes the address.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

static ADDRESS: OnceLock<Address> = OnceLock::new();

/// Stores the address. Only the first call has an effect.
pub(crate) fn set(raw: *mut sys::spdk_bdev_module) {
    let _ = ADDRESS.set(Address(raw));
}

/// Returns the address, once the module is registered.
pub(crate) fn get() -> Option<*mut sys::spdk_bdev_module> {
    ADDRESS.get().map(|address| address.0)
}
