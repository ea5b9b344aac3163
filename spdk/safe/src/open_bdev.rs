//! An open descriptor of a bdev, as its [`Desc`](crate::bdev::Desc) and its channels share it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use spdk_contract::bdev::BdevEvent;
use spdk_sys as sys;

use crate::thread::Thread;

/// How many descriptors of ours share the claim of a bdev, by its address. SPDK lets a module claim a bdev once. An open
/// descriptor keeps its bdev, so no address here is another bdev's.
pub(crate) static CLAIMS: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

pub(crate) type OnEvent = dyn Fn(BdevEvent);

pub(crate) struct Events(pub(crate) RefCell<Option<Rc<OnEvent>>>);

pub(crate) struct Shared {
    pub(crate) raw: NonNull<sys::spdk_bdev_desc>,
    pub(crate) bdev: NonNull<sys::spdk_bdev>,
    pub(crate) block_size: u32,
    pub(crate) opener: Thread,
    /// The `Desc` and the channels. At 0 it is closed, or about to be.
    pub(crate) holders: AtomicUsize,
    /// The `Desc` is gone: no more channels.
    pub(crate) closing: AtomicBool,
    /// One count of the `Rc`, for the callback; given back on the opener's thread.
    pub(crate) events: *const Events,
}

// SAFETY: SPDK's descriptors are used for I/O from all threads; opened and closed on one, see `release`.
// `events` is only touched there.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Gives a holder's share back, and closes the descriptor after the last.
pub(crate) fn release(shared: &Arc<Shared>) {
    if shared.holders.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    if Thread::current() == Some(shared.opener) {
        shared.close();
        return;
    }
    let last = Arc::clone(shared);
    if let Err(e) = shared.opener.send(move || last.close()) {
        crate::error!("cannot close a bdev, its thread does not answer: {e}");
    }
}

impl Shared {
    /// On the opener's thread, once.
    fn close(&self) {
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.bdev.as_ptr() as usize;
        let left = claims.get(&key).map_or(0, |count| count - 1);
        if left > 0 {
            claims.insert(key, left);
        } else if claims.remove(&key).is_some() {
            // SAFETY: claimed by this module; open, so still there.
            unsafe { sys::spdk_bdev_module_release_bdev(self.bdev.as_ptr()) };
        }
        drop(claims);
        // SAFETY: open until here, on the thread that opened it, and no channel is left. After that SPDK
        // calls `on_bdev_event` no more, so the callback's count can go.
        unsafe {
            sys::spdk_bdev_close(self.raw.as_ptr());
            drop(Rc::from_raw(self.events));
        }
    }
}

pub(crate) extern "C" fn on_bdev_event(
    event: sys::spdk_bdev_event_type,
    _bdev: *mut sys::spdk_bdev,
    ctx: *mut c_void,
) {
    // SAFETY: the descriptor is open, so its count of `Events` is there; this is the opener's thread.
    let events = unsafe { &*ctx.cast::<Events>() };
    let on_event = events.0.borrow().clone();
    let event = match event {
        sys::SPDK_BDEV_EVENT_REMOVE => BdevEvent::Remove,
        sys::SPDK_BDEV_EVENT_RESIZE => BdevEvent::Resize,
        _ => return,
    };
    if let Some(on_event) = on_event {
        on_event(event);
    }
}
