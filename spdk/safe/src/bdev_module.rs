//! The registration of the bdev module. Its disks are in [`disk`](crate::disk).

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

use serde_json::Value;
use spdk_sys as sys;

pub use crate::disk::{DestructDone, Disk, DiskInfo, Registered, register};
use crate::errno::{Errno, Result};
use crate::parts::DRIVER_CTX_LEN;
use crate::{json, module_address};

/// The functions of the bdev module. An application has one.
pub struct ModuleOps {
    /// The name of the module.
    pub name: &'static CStr,
    /// Called when SPDK starts its bdevs, on the first thread.
    pub init: fn() -> Result<()>,
    /// Called when the application ends, before its bdevs are unregistered.
    pub fini_start: fn(),
    /// Called when the application ends, after its last bdev is gone.
    pub fini: fn(),
    /// Called with the name of each bdev that appears, before any module reads from it, on the
    /// thread that registers the bdev.
    pub examine: fn(&str),
    /// Returns the RPCs, `{"method": …, "params": {…}}`, that restore what no single disk's
    /// `write_config` restores.
    pub config: fn() -> Vec<Value>,
}

static MODULE: OnceLock<&'static ModuleOps> = OnceLock::new();

/// Registers the module with SPDK. Call it once, from a [`constructor!`](crate::constructor!).
///
/// # Panics
/// If it is called a second time.
pub fn register_module(ops: &'static ModuleOps) {
    // SAFETY: pointers, flags and numbers; all zero is valid, and means "not given".
    let mut module: sys::spdk_bdev_module = unsafe { std::mem::zeroed() };
    module.name = ops.name.as_ptr();
    module.module_init = Some(module_init);
    module.fini_start = Some(module_fini_start);
    module.module_fini = Some(module_fini);
    module.config_json = Some(module_config_json);
    module.examine_config = Some(module_examine_config);
    module.get_ctx_size = Some(module_ctx_size);
    let raw = Box::into_raw(Box::new(module));
    assert!(MODULE.set(ops).is_ok(), "there is one bdev module");
    module_address::set(raw);
    // SAFETY: valid for ever; constructors run before anything reads the list.
    unsafe { sys::spdk_bdev_module_list_add(raw) };
}

extern "C" fn module_init() -> c_int {
    Errno::to_rc(MODULE.get().map_or(Ok(()), |m| (m.init)()))
}

extern "C" fn module_fini_start() {
    if let Some(module) = MODULE.get() {
        (module.fini_start)();
    }
}

extern "C" fn module_fini() {
    if let Some(module) = MODULE.get() {
        (module.fini)();
    }
}

extern "C" fn module_config_json(w: *mut sys::spdk_json_write_ctx) -> c_int {
    if let Some(module) = MODULE.get() {
        for call in (module.config)() {
            // SAFETY: SPDK's writer, inside an array.
            unsafe { json::write(w, &call) };
        }
    }
    0
}

/// SPDK calls this for each bdev that appears, before any module reads from it.
extern "C" fn module_examine_config(bdev: *mut sys::spdk_bdev) {
    if let Some(module) = module_address::get() {
        // SAFETY: SPDK passes a bdev that is being registered; the module is registered, and SPDK
        // waits for it.
        unsafe {
            if let Some(ops) = MODULE.get() {
                crate::bdev::appeared(bdev, ops.examine);
            }
            sys::spdk_bdev_module_examine_done(module);
        }
    }
}

extern "C" fn module_ctx_size() -> c_int {
    DRIVER_CTX_LEN as c_int
}
