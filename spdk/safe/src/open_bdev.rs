//! The open descriptor of a bdev, which a [`Desc`](crate::bdev::Desc) and its channels share.

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

/// The claims of this crate's descriptors, by the address of the bdev. SPDK lets a module claim a
/// bdev only once. An open descriptor keeps its bdev, so an address in this map is not reused for
/// another bdev.
pub(crate) static CLAIMS: LazyLock<Mutex<HashMap<usize, Claim>>> = LazyLock::new(Mutex::default);

/// Who has claimed a bdev.
#[derive(Clone, Copy)]
pub(crate) enum Claim {
    /// So many descriptors, which share it.
    Shared(usize),
    /// One descriptor, which shares it with no other.
    Sole,
}

impl Claim {
    /// Returns the claim of a descriptor more, if that may be.
    pub(crate) fn join(before: Option<Claim>, is_sole: bool) -> Option<Claim> {
        match (before, is_sole) {
            (None, true) => Some(Claim::Sole),
            (None, false) => Some(Claim::Shared(1)),
            (Some(Claim::Shared(count)), false) => Some(Claim::Shared(count + 1)),
            (Some(_), true) | (Some(Claim::Sole), false) => None,
        }
    }

    /// Returns the claim of those that are left when a descriptor is closed.
    fn leave(self) -> Option<Claim> {
        match self {
            Claim::Sole | Claim::Shared(..=1) => None,
            Claim::Shared(count) => Some(Claim::Shared(count - 1)),
        }
    }
}

pub(crate) type OnEvent = dyn Fn(BdevEvent);

pub(crate) struct Events {
    pub(crate) on_event: RefCell<Option<Rc<OnEvent>>>,
    /// Whether SPDK has said that the bdev is removed. Written by the opener's thread, read by all that
    /// have channels; nothing is ordered by it.
    pub(crate) is_removed: Arc<AtomicBool>,
}

pub(crate) struct SharedDescriptor {
    pub(crate) raw: NonNull<sys::spdk_bdev_desc>,
    pub(crate) bdev: NonNull<sys::spdk_bdev>,
    pub(crate) block_size: u32,
    /// In bytes.
    pub(crate) required_alignment: usize,
    pub(crate) opener: Thread,
    /// The number of holders: the `Desc` and the channels. At 0 the descriptor is closed, or about
    /// to be.
    pub(crate) holders: AtomicUsize,
    /// Whether the `Desc` is gone, so that no more channels can be opened.
    pub(crate) closing: AtomicBool,
    /// One reference of the `Rc`, for the callback; dropped on the opener's thread.
    pub(crate) events: *const Events,
    /// See [`Events::is_removed`].
    pub(crate) is_removed: Arc<AtomicBool>,
}

// SAFETY: SPDK's descriptors are used for I/O from all threads; opened and closed on one, see
// `release`. `events` is only touched there.
unsafe impl Send for SharedDescriptor {}
// SAFETY: as above.
unsafe impl Sync for SharedDescriptor {}

/// Releases one holder's share, and closes the descriptor after the last one.
pub(crate) fn release(shared: &Arc<SharedDescriptor>) {
    if shared.holders.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    if Thread::current() == Some(shared.opener) {
        shared.close();
        return;
    }
    let last = Arc::clone(shared);
    if let Err(e) = shared.opener.send(move || last.close()) {
        crate::error!("can't close a bdev, since a message to its thread can't be sent: {e}");
    }
}

impl SharedDescriptor {
    /// Closes the descriptor. Called once, on the opener's thread.
    fn close(&self) {
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.bdev.as_ptr() as usize;
        match claims.remove(&key).map(Claim::leave) {
            Some(Some(left)) => {
                claims.insert(key, left);
            }
            // SAFETY: this module has claimed the bdev, which is open and therefore exists.
            Some(None) => unsafe { sys::spdk_bdev_module_release_bdev(self.bdev.as_ptr()) },
            None => {}
        }
        drop(claims);
        // SAFETY: the descriptor is open until here, this is the thread that opened it, and no
        // channel is left. SPDK does not call `on_bdev_event` afterwards, so the callback's
        // reference can be dropped.
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
    // SAFETY: the descriptor is open, so its reference to `Events` exists; this is the opener's
    // thread.
    let events = unsafe { &*ctx.cast::<Events>() };
    let on_event = events.on_event.borrow().clone();
    let event = match event {
        sys::SPDK_BDEV_EVENT_REMOVE => {
            events.is_removed.store(true, Ordering::Relaxed);
            BdevEvent::Remove
        }
        sys::SPDK_BDEV_EVENT_RESIZE => BdevEvent::Resize,
        _ => return,
    };
    if let Some(on_event) = on_event {
        on_event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sole_claim_is_shared_with_nobody() {
        let sole = Claim::join(None, true);
        assert!(Claim::join(sole, true).is_none() && Claim::join(sole, false).is_none());
        assert!(sole.is_some_and(|claim| claim.leave().is_none()));
        let two = Claim::join(Claim::join(None, false), false);
        assert!(Claim::join(two, true).is_none());
        let one = two.and_then(Claim::leave);
        assert!(one.is_some() && one.and_then(Claim::leave).is_none());
    }
}
