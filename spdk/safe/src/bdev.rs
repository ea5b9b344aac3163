//! Using a bdev: looking it up, opening it, events. I/O is in [`backend`](crate::backend).

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

pub use spdk_contract::bdev::{BdevEvent, BdevInfo, IoTypes};
use spdk_sys as sys;

pub use crate::backend::{BackendDone, BackendIo, Channel, IoStatus};
use crate::errno::{Errno, Result};
use crate::open_bdev::{CLAIMS, Events, OnEvent, Shared, on_bdev_event, release};
use crate::thread::Thread;

/// Returns what SPDK says about a bdev.
///
/// # Safety
/// `bdev` is registered, and stays so during the call.
unsafe fn read_info(bdev: *mut sys::spdk_bdev) -> BdevInfo {
    // SAFETY: the bdev is valid (the caller's promise), so are its name and UUID; all of these only read
    // it.
    unsafe {
        let type_of = |set: IoTypes, (types, raw): (IoTypes, sys::spdk_bdev_io_type)| {
            set.with(types, sys::spdk_bdev_io_type_supported(bdev, raw))
        };
        BdevInfo {
            name: CStr::from_ptr(sys::spdk_bdev_get_name(bdev)).to_string_lossy().into_owned(),
            uuid: sys::spdk_bdev_get_uuid(bdev).cast::<[u8; 16]>().read_unaligned(),
            block_size: sys::spdk_bdev_get_block_size(bdev),
            num_blocks: sys::spdk_bdev_get_num_blocks(bdev),
            write_unit_size: sys::spdk_bdev_get_write_unit_size(bdev),
            optimal_io_boundary: sys::spdk_bdev_get_optimal_io_boundary(bdev),
            required_alignment_log2: sys::spdk_bdev_get_buf_align(bdev).trailing_zeros() as u8,
            acwu: sys::spdk_bdev_get_acwu(bdev).into(),
            write_cache: sys::spdk_bdev_has_write_cache(bdev),
            md_size: sys::spdk_bdev_get_md_size(bdev),
            supports: RAW_TYPES.into_iter().fold(IoTypes::NONE, type_of),
        }
    }
}

const RAW_TYPES: [(IoTypes, sys::spdk_bdev_io_type); 7] = [
    (IoTypes::READ, sys::SPDK_BDEV_IO_TYPE_READ),
    (IoTypes::WRITE, sys::SPDK_BDEV_IO_TYPE_WRITE),
    (IoTypes::FLUSH, sys::SPDK_BDEV_IO_TYPE_FLUSH),
    (IoTypes::UNMAP, sys::SPDK_BDEV_IO_TYPE_UNMAP),
    (IoTypes::WRITE_ZEROES, sys::SPDK_BDEV_IO_TYPE_WRITE_ZEROES),
    (IoTypes::RESET, sys::SPDK_BDEV_IO_TYPE_RESET),
    (IoTypes::COMPARE_AND_WRITE, sys::SPDK_BDEV_IO_TYPE_COMPARE_AND_WRITE),
];

/// Looks a bdev up by name or alias without opening it. On the thread that handles RPCs, where bdevs come and
/// go.
pub fn info(name: &str) -> Option<BdevInfo> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that lives during the call.
    let bdev = unsafe { sys::spdk_bdev_get_by_name(name.as_ptr()) };
    // SAFETY: found just now, and nothing on this thread unregisters it in between.
    (!bdev.is_null()).then(|| unsafe { read_info(bdev) })
}

/// The module that has claimed a bdev, so that nobody else may write to it.
pub fn claimed_by(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that lives during the call; a bdev that was found just now; a module's name lives for ever.
    unsafe {
        let bdev = NonNull::new(sys::spdk_bdev_get_by_name(name.as_ptr()))?;
        let module = NonNull::new(sys::dst_spdk_bdev_claimed_by(bdev.as_ptr()).cast_mut())?;
        Some(CStr::from_ptr(module.as_ptr()).to_string_lossy().into_owned())
    }
}

thread_local! {
    /// The bdev that SPDK is registering on this thread, and asks its modules about.
    static APPEARING: Cell<*mut sys::spdk_bdev> = const { Cell::new(ptr::null_mut()) };
}

/// A bdev has appeared: calls `examine` with its name. [`Desc::open`] in that call takes the bdev before
/// any module reads from it.
///
/// # Safety
/// `bdev` is being registered, on this thread.
pub(crate) unsafe fn appeared(bdev: *mut sys::spdk_bdev, examine: fn(&str)) {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(sys::spdk_bdev_get_name(bdev)).to_string_lossy() };
    // A call inside the call, if one module's bdev makes another one appear.
    let outer = APPEARING.replace(bdev);
    examine(&name);
    APPEARING.set(outer);
}

/// An open bdev. Belongs to the SPDK thread that opened it.
///
/// Dropped, no event comes any more and no new [`Channel`] can be made; SPDK's descriptor is closed once
/// the last channel is gone too, so that I/O in flight on other threads ends in its own time.
pub struct Desc {
    shared: Arc<Shared>,
    events: Rc<Events>,
    _not_send: PhantomData<*mut ()>,
}

/// An open bdev as other threads see it: good for making channels while the [`Desc`] is there.
#[derive(Clone)]
pub struct DescRef(Arc<Shared>);

impl Desc {
    /// Opens a bdev by name or alias, claims it, and calls `on_event` on this thread from then on. While descriptors of
    /// ours are open, no other module may write to the bdev. Call it on the thread that handles RPCs.
    ///
    /// `ENODEV`: no such bdev, or it is being removed. `EPERM`: another module has claimed it, see [`claimed_by`]. `EBUSY`:
    /// somebody else has it open; if that is an examination, it ends by itself.
    pub fn open(name: &str, write: bool, on_event: impl Fn(BdevEvent) + 'static) -> Result<Desc> {
        let opener = Thread::current().ok_or(Errno::ESRCH)?;
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let events = Rc::new(Events(RefCell::new(Some(Rc::new(on_event) as Rc<OnEvent>))));
        let module = crate::module_address::get().ok_or(Errno::ENODEV)?;
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a string for the call; a bdev that was found just now, and stays during this call.
        let found =
            unsafe { NonNull::new(sys::spdk_bdev_get_by_name(name.as_ptr())) }.ok_or(Errno::ENODEV)?;
        let key = found.as_ptr() as usize;
        let shared_by = claims.get(&key).copied().unwrap_or(0);
        let is_ours = shared_by > 0;
        // SPDK itself may have a bdev open that it registers, and no module has looked at that bdev yet.
        let is_new = APPEARING.get() == found.as_ptr();
        // SAFETY: as above.
        unsafe {
            if is_ours {
                // SPDK lets nobody write to a claimed bdev, not even the module that has claimed it.
                sys::spdk_bdev_module_release_bdev(found.as_ptr());
            } else if !sys::dst_spdk_bdev_claimed_by(found.as_ptr()).is_null() {
                return Err(Errno::EPERM);
            } else if !is_new && sys::dst_spdk_bdev_is_open(found.as_ptr()) {
                // 20.07's lvol, for one, opens for writing what it examines, and writes to it when the bdev was claimed
                // meanwhile.
                return Err(Errno::EBUSY);
            }
        }
        let ctx = Rc::into_raw(Rc::clone(&events));
        let mut raw = ptr::null_mut();
        // SAFETY: a string for the call; `ctx` is valid until the descriptor is closed.
        let rc = unsafe {
            sys::spdk_bdev_open_ext(
                name.as_ptr(),
                write,
                Some(on_bdev_event),
                ctx.cast_mut().cast::<c_void>(),
                &mut raw,
            )
        };
        let mut opened = Errno::check(rc).and_then(|()| NonNull::new(raw).ok_or(Errno::EIO));
        if is_ours || opened.is_ok() {
            // Without the descriptor, which would become one for writing.
            // SAFETY: the bdev is there, and nobody has claimed it; the module's structure lives for ever.
            let rc = unsafe { sys::spdk_bdev_module_claim_bdev(found.as_ptr(), ptr::null_mut(), module) };
            if let Err(e) = Errno::check(rc) {
                if let Ok(raw) = opened {
                    // SAFETY: opened just now, on this thread.
                    unsafe { sys::spdk_bdev_close(raw.as_ptr()) };
                }
                opened = Err(e);
            }
        }
        if opened.is_ok() {
            claims.insert(key, shared_by + 1);
        }
        drop(claims);
        let raw = match opened {
            Ok(raw) => raw,
            Err(e) => {
                // 20.07's word for a name that it does not know.
                let e = if e == Errno::EINVAL { Errno::ENODEV } else { e };
                // SAFETY: the count made above, which nobody took.
                drop(unsafe { Rc::from_raw(ctx) });
                return Err(e);
            }
        };
        // SAFETY: an open descriptor keeps its bdev.
        let (bdev, block_size) = unsafe {
            let bdev = sys::spdk_bdev_desc_get_bdev(raw.as_ptr());
            (NonNull::new_unchecked(bdev), sys::spdk_bdev_get_block_size(bdev))
        };
        let shared = Shared {
            raw,
            bdev,
            block_size,
            opener,
            holders: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            events: ctx,
        };
        Ok(Desc { shared: Arc::new(shared), events, _not_send: PhantomData })
    }

    /// What SPDK says about the bdev now.
    pub fn info(&self) -> BdevInfo {
        // SAFETY: the open descriptor keeps the bdev.
        unsafe { read_info(self.shared.bdev.as_ptr()) }
    }

    /// For making channels on any thread.
    pub fn handle(&self) -> DescRef {
        DescRef(Arc::clone(&self.shared))
    }
}

impl Drop for Desc {
    fn drop(&mut self) {
        let on_event = self.events.0.borrow_mut().take();
        self.shared.closing.store(true, Ordering::Relaxed);
        release(&self.shared);
        // Maybe we are inside it: then the one who called it has a count.
        drop(on_event);
    }
}

impl DescRef {
    /// A channel for I/O from this SPDK thread. `ENODEV`: the [`Desc`] is gone. `ENOMEM`: the bdev has no
    /// more.
    pub fn channel(&self) -> Result<Channel> {
        if self.0.closing.load(Ordering::Relaxed) {
            return Err(Errno::ENODEV);
        }
        // Closed meanwhile: harmless, the channel then is one of those that the descriptor waits for.
        self.0
            .holders
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| (n > 0).then_some(n + 1))
            .map_err(|_| Errno::ENODEV)?;
        // SAFETY: open, since there was a holder and now we are one; on an SPDK thread, or SPDK returns null.
        let ch = unsafe { sys::spdk_bdev_get_io_channel(self.0.raw.as_ptr()) };
        match NonNull::new(ch) {
            Some(ch) => Ok(Channel::new(ch, Arc::clone(&self.0))),
            None => {
                release(&self.0);
                Err(Errno::ENOMEM)
            }
        }
    }
}
