//! Members that are exports of another machine: who owns them, and how they are taken over.

use std::sync::OnceLock;

use dst_mirror::takeover::Standing;

use crate::life::Done;

/// What can be done with the bdevs of this process that are exports elsewhere. Each function takes the name
/// of a bdev, which need not be there yet, and is called on the control thread.
#[derive(Debug, Clone, Copy)]
pub struct Exports {
    /// Returns how an export stands to this host, or `None` if the bdev is no export.
    pub standing: fn(bdev: &str) -> Option<Standing>,
    /// Takes an export over, if the newest ownership is still the one with the number `after`.
    pub take_over: fn(bdev: &str, after: u64),
    /// Deletes the bdev of an export, if there is one. `done` is called when it is gone.
    pub give_back: fn(bdev: &str, done: Done),
}

static EXPORTS: OnceLock<Exports> = OnceLock::new();

/// Sets what is done with exports. Only the first call has an effect.
pub fn set_exports(exports: Exports) {
    EXPORTS.get_or_init(|| exports);
}

/// Returns what is done with exports.
pub fn exports() -> Option<Exports> {
    EXPORTS.get().copied()
}

/// Returns how a device stands to this host. `is_there` says whether there is a bdev of its name, for
/// which SPDK 20.07 walks all bdevs: it is asked only if the device is no export.
pub fn standing(bdev: &str, is_there: impl FnOnce() -> bool) -> Standing {
    let export = exports().and_then(|exports| (exports.standing)(bdev));
    export.unwrap_or_else(|| if is_there() { Standing::Local } else { Standing::Silent })
}
