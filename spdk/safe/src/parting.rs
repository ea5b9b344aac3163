//! Gives channels of bdevs back to SPDK.
//!
//! Before SPDK 25.09, a compare-and-write may still use another thread's channel after all I/O of
//! that channel has ended. SPDK's bdev layer locks the range of a compare-and-write on each channel
//! of the bdev, and where I/O overlaps the range it looks again every 100 µs, with a poller that
//! holds no reference to the channel (`bdev_lock_lba_range_check_io`; mended by SPDK's commit
//! 3be29571df). So a client could make SPDK use freed memory: with a compare-and-write on one
//! connection, and a write on another one that it closes. Therefore a channel is kept for longer
//! than that.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use spdk_sys as sys;

use crate::open_bdev::{SharedDescriptor, release};

/// How long a channel is kept, µs: ten times SPDK's 100 µs. The poller of SPDK was registered
/// before the channel's last I/O ended, and a thread calls its pollers in the order in which they
/// are due, so it is called first even on a thread that was held up.
const KEEP_US: u64 = 1000;

/// A channel that is kept.
struct Parting {
    ch: NonNull<sys::spdk_io_channel>,
    desc: Arc<SharedDescriptor>,
    poller: *mut sys::spdk_poller,
}

impl Parting {
    /// Gives the channel back, and then its share in the descriptor.
    ///
    /// # Safety
    /// This is the channel's thread, and the reference to the channel is given away.
    unsafe fn put(self) {
        // SAFETY: the caller guarantees this.
        unsafe { sys::spdk_put_io_channel(self.ch.as_ptr()) };
        release(&self.desc);
    }
}

/// Gives a channel and a share in its descriptor back, when SPDK does not use the channel any more.
///
/// # Safety
/// This is the channel's thread, no I/O is in flight on it, and the caller gives its reference away.
pub(crate) unsafe fn put(ch: NonNull<sys::spdk_io_channel>, desc: &Arc<SharedDescriptor>) {
    extern "C" fn late(arg: *mut c_void) -> c_int {
        // SAFETY: the box that was left with the poller, which is called once, as it is
        // unregistered here, on its own thread. The reference was given to it.
        unsafe {
            let mut parting = Box::from_raw(arg.cast::<Parting>());
            sys::spdk_poller_unregister(&mut parting.poller);
            parting.put();
        }
        1
    }

    let parting = Parting { ch, desc: Arc::clone(desc), poller: ptr::null_mut() };
    if cfg!(not(spdk_range_lock_loses_channel)) {
        // SAFETY: the caller guarantees this.
        return unsafe { parting.put() };
    }
    let parting = Box::into_raw(Box::new(parting));
    // SAFETY: the box is valid until the poller is called, and this thread runs.
    unsafe {
        let name = c"dst_parting".as_ptr();
        let poller = sys::spdk_poller_register_named(Some(late), parting.cast(), KEEP_US, name);
        if poller.is_null() {
            // Without memory for a poller there is no better way.
            return Box::from_raw(parting).put();
        }
        (*parting).poller = poller;
    }
}
