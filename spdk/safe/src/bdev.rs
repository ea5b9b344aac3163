//! Using a bdev: lookup, opening, and events. I/O is in [`backend`](crate::backend).

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

pub use spdk_contract::bdev::{BdevEvent, BdevInfo, IoTypes, Survives};
use spdk_sys as sys;

pub use crate::backend::{BackendChannel, BackendDone, BackendIo, Footprint, IoStatus};
use crate::dma::ALIGNMENT;
use crate::errno::{Errno, Result};
use crate::open_bdev::{CLAIMS, Claim, Events, OnEvent, SharedDescriptor, on_bdev_event, release};
use crate::thread::Thread;

/// Returns what SPDK says about a bdev.
///
/// # Safety
/// `bdev` is registered, and stays so during the call.
unsafe fn read_info(bdev: *mut sys::spdk_bdev) -> BdevInfo {
    // SAFETY: the caller guarantees that the bdev is valid, and so are its name and UUID; all calls
    // only read it.
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

/// Looks up a bdev by name or alias without opening it. Call it on the thread that handles RPCs,
/// where bdevs come and go.
pub fn info(name: &str) -> Option<BdevInfo> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that lives during the call.
    let bdev = unsafe { sys::spdk_bdev_get_by_name(name.as_ptr()) };
    // SAFETY: found just now, and nothing on this thread unregisters it in between.
    (!bdev.is_null()).then(|| unsafe { read_info(bdev) })
}

/// Returns true if a bdev of this process has this UUID. Call it on the thread that handles RPCs.
pub fn has_uuid(uuid: [u8; 16]) -> bool {
    by_uuid(uuid).is_some()
}

/// Looks up a bdev by its UUID without opening it. Call it on the thread that handles RPCs.
pub fn info_by_uuid(uuid: [u8; 16]) -> Option<BdevInfo> {
    // SAFETY: found just now, and nothing on this thread unregisters it in between.
    by_uuid(uuid).map(|bdev| unsafe { read_info(bdev.as_ptr()) })
}

/// Returns the first bdev with this UUID. Call it on the thread that handles RPCs.
fn by_uuid(uuid: [u8; 16]) -> Option<NonNull<sys::spdk_bdev>> {
    // SAFETY: SPDK's list of bdevs, read on the thread where they come and go, so each bdev is
    // registered while its UUID is read and its successor is looked up.
    unsafe {
        let first = NonNull::new(sys::spdk_bdev_first());
        let mut bdevs = std::iter::successors(first, |bdev| NonNull::new(sys::spdk_bdev_next(bdev.as_ptr())));
        bdevs.find(|bdev| sys::spdk_bdev_get_uuid(bdev.as_ptr()).cast::<[u8; 16]>().read_unaligned() == uuid)
    }
}

/// Returns true if one bdev was registered before the other one, so that a saved configuration has its
/// RPCs earlier. Call it on the thread that handles RPCs.
pub fn comes_before(one: &str, other: &str) -> bool {
    // SAFETY: as in `by_uuid`; a bdev's name lives as long as the bdev does.
    unsafe {
        let first = NonNull::new(sys::spdk_bdev_first());
        let bdevs = std::iter::successors(first, |bdev| NonNull::new(sys::spdk_bdev_next(bdev.as_ptr())));
        let mut names = bdevs.map(|bdev| CStr::from_ptr(sys::spdk_bdev_get_name(bdev.as_ptr())).to_bytes());
        names.find(|name| *name == one.as_bytes() || *name == other.as_bytes()) == Some(one.as_bytes())
    }
}

/// Returns the names of all bdevs, in the order in which they were registered. Call it on the thread that
/// handles RPCs.
pub fn names() -> Vec<String> {
    // SAFETY: as in `by_uuid`; a bdev's name lives as long as the bdev does.
    unsafe {
        let first = NonNull::new(sys::spdk_bdev_first());
        let bdevs = std::iter::successors(first, |bdev| NonNull::new(sys::spdk_bdev_next(bdev.as_ptr())));
        bdevs
            .map(|bdev| CStr::from_ptr(sys::spdk_bdev_get_name(bdev.as_ptr())).to_string_lossy().into_owned())
            .collect()
    }
}

/// The products whose bdevs take data at all addresses at which they say that they do.
const ALIGNED_AS_REPORTED: [&CStr; 5] =
    [c"Malloc disk", c"Null disk", c"NVMe disk", c"DST Disk", c"DST Mirror"];

/// Returns the alignment that a bdev requires of data in memory, in bytes.
///
/// A bdev on top of others may report less than these need. SPDK's raid does (20.07 to 26.09): on
/// top of aio, a write of 64 KiB at an address that is not aligned fails.
///
/// # Safety
/// The bdev is open.
unsafe fn required_alignment(bdev: *mut sys::spdk_bdev) -> usize {
    // SAFETY: the caller guarantees this; the strings of a bdev live as long as the bdev does.
    let (reported, product) = unsafe {
        (sys::spdk_bdev_get_buf_align(bdev), CStr::from_ptr(sys::spdk_bdev_get_product_name(bdev)))
    };
    if ALIGNED_AS_REPORTED.contains(&product) { reported } else { reported.max(ALIGNMENT) }
}

/// Returns what kind of bdev it is, in the words of its module, such as `Malloc disk`.
pub fn product_name(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that lives during the call; a bdev that was found just now, whose strings live
    // as long as the bdev does.
    unsafe {
        let bdev = NonNull::new(sys::spdk_bdev_get_by_name(name.as_ptr()))?;
        let product = NonNull::new(sys::spdk_bdev_get_product_name(bdev.as_ptr()).cast_mut())?;
        Some(CStr::from_ptr(product.as_ptr()).to_string_lossy().into_owned())
    }
}

/// The products whose flushed data survives the process, and how much more than that. Bdevs in
/// memory are not here, and neither are those on top of other bdevs (lvols, raids, partitions),
/// which may be in memory, nor is rbd, whose library may cache writes in the process's memory although
/// its bdev says that it has no cache.
const SURVIVES: [(&str, Survives); 6] = [
    ("AIO disk", Survives::ProcessEnd),
    ("URING bdev", Survives::ProcessEnd),
    ("NVMe disk", Survives::MachineRestart),
    ("VirtioBlk Disk", Survives::MachineRestart),
    ("Virtio SCSI Disk", Survives::MachineRestart),
    ("iSCSI LUN", Survives::MachineRestart),
];

/// Returns what flushed data of a bdev of this kind (SPDK's product name) survives, or `None` if it
/// may be lost with the process.
pub fn survives(product: &str, write_cache: bool) -> Option<Survives> {
    let (_, survives) = SURVIVES.iter().find(|(name, _)| *name == product)?;
    // SPDK's NVMe bdev answers a flush itself, up to 25.05, and later without `enable_flush`. So a
    // device's volatile cache is as good as its power.
    let is_flushed = !(write_cache && product == "NVMe disk");
    Some(if is_flushed { *survives } else { Survives::ProcessEnd })
}

/// Returns the name of the module that has claimed the bdev, if any. No other module may write to a
/// claimed bdev.
pub fn claimed_by(name: &str) -> Option<String> {
    let name = CString::new(name).ok()?;
    // SAFETY: a string that lives during the call; a bdev that was found just now; a module's name
    // lives for ever.
    unsafe {
        let bdev = NonNull::new(sys::spdk_bdev_get_by_name(name.as_ptr()))?;
        let module = NonNull::new(sys::dst_spdk_bdev_claimed_by(bdev.as_ptr()).cast_mut())?;
        Some(CStr::from_ptr(module.as_ptr()).to_string_lossy().into_owned())
    }
}

thread_local! {
    /// The bdev that SPDK is registering on this thread and about which it asks its modules.
    static APPEARING: Cell<*mut sys::spdk_bdev> = const { Cell::new(ptr::null_mut()) };
}

/// Calls `examine` with the name of a bdev that has appeared. [`Desc::open`] inside that call takes
/// the bdev before any module reads from it.
///
/// # Safety
/// `bdev` is being registered, on this thread.
pub(crate) unsafe fn appeared(bdev: *mut sys::spdk_bdev, examine: fn(&str)) {
    // SAFETY: the caller guarantees this.
    let name = unsafe { CStr::from_ptr(sys::spdk_bdev_get_name(bdev)).to_string_lossy() };
    // Calls may be nested, if the bdev of one module makes another bdev appear.
    let outer = APPEARING.replace(bdev);
    examine(&name);
    APPEARING.set(outer);
}

/// An open bdev. It belongs to the SPDK thread that opened it.
///
/// After it is dropped, no more events come and no new [`BackendChannel`] can be opened. SPDK's descriptor
/// is closed once the last channel is gone, so that I/O in flight on other threads ends in its own
/// time.
pub struct Desc {
    shared: Arc<SharedDescriptor>,
    events: Rc<Events>,
    _not_send: PhantomData<*mut ()>,
}

/// A handle to an open bdev for other threads, which can open channels while the [`Desc`] exists.
#[derive(Clone)]
pub struct DescRef(Arc<SharedDescriptor>);

impl Desc {
    /// Opens a bdev by name or alias, claims it, and calls `on_event` for its events on this
    /// thread. While any [`Desc`] of the bdev is open, no other module may write to the bdev. Call
    /// it on the thread that handles RPCs.
    ///
    /// `ENODEV`: the bdev does not exist, or is being removed. `EPERM`: another module has claimed
    /// it, see [`claimed_by`]. `EBUSY`: another user has it open, which ends by itself if it is an
    /// examination, or a [`Desc`] has claimed it for itself alone.
    pub fn open(name: &str, write: bool, on_event: impl Fn(BdevEvent) + 'static) -> Result<Desc> {
        Self::open_and_claim(name, write, false, Rc::new(on_event))
    }

    /// Opens a bdev for writing as [`Desc::open`] does, and claims it for this [`Desc`] alone.
    ///
    /// `EBUSY`: as there, or another [`Desc`] of the bdev is open.
    pub fn open_alone(name: &str, on_event: impl Fn(BdevEvent) + 'static) -> Result<Desc> {
        Self::open_and_claim(name, true, true, Rc::new(on_event))
    }

    fn open_and_claim(name: &str, write: bool, is_sole: bool, on_event: Rc<OnEvent>) -> Result<Desc> {
        let opener = Thread::current().ok_or(Errno::ESRCH)?;
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let is_removed = Arc::new(AtomicBool::new(false));
        let on_event = RefCell::new(Some(on_event));
        let events = Rc::new(Events { on_event, is_removed: Arc::clone(&is_removed) });
        let module = crate::module_address::get().ok_or(Errno::ENODEV)?;
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a string for the call; a bdev that was found just now, and stays during this
        // call.
        let found =
            unsafe { NonNull::new(sys::spdk_bdev_get_by_name(name.as_ptr())) }.ok_or(Errno::ENODEV)?;
        let key = found.as_ptr() as usize;
        let before = claims.get(&key).copied();
        let claim = Claim::join(before, is_sole).ok_or(Errno::EBUSY)?;
        let is_ours = before.is_some();
        // SPDK itself may have the bdev open that it is registering, which no module has examined
        // yet.
        let is_new = APPEARING.get() == found.as_ptr();
        // SAFETY: as above.
        unsafe {
            if is_ours {
                // SPDK lets no module open a claimed bdev for writing, not even the module that has
                // claimed it.
                sys::spdk_bdev_module_release_bdev(found.as_ptr());
            } else if !sys::dst_spdk_bdev_claimed_by(found.as_ptr()).is_null() {
                return Err(Errno::EPERM);
            } else if !is_new && sys::dst_spdk_bdev_is_in_use(found.as_ptr(), module) {
                // SPDK 20.07's lvol module, for one, opens for writing what it examines, and writes
                // even if the bdev was claimed in the meantime.
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
            // The claim does not name the descriptor, which would become a writable one.
            // SAFETY: the bdev exists and is not claimed; the module's structure lives for ever.
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
            claims.insert(key, claim);
        }
        drop(claims);
        let raw = match opened {
            Ok(raw) => raw,
            Err(e) => {
                // SPDK 20.07 returns EINVAL for an unknown name.
                let e = if e == Errno::EINVAL { Errno::ENODEV } else { e };
                // SAFETY: the reference made above, which SPDK did not take.
                drop(unsafe { Rc::from_raw(ctx) });
                return Err(e);
            }
        };
        // SAFETY: an open descriptor keeps its bdev.
        let (bdev, block_size, required_alignment) = unsafe {
            let bdev = sys::spdk_bdev_desc_get_bdev(raw.as_ptr());
            (NonNull::new_unchecked(bdev), sys::spdk_bdev_get_block_size(bdev), required_alignment(bdev))
        };
        let shared = SharedDescriptor {
            raw,
            bdev,
            block_size,
            required_alignment,
            opener,
            holders: AtomicUsize::new(1),
            closing: AtomicBool::new(false),
            events: ctx,
            is_removed,
        };
        Ok(Desc { shared: Arc::new(shared), events, _not_send: PhantomData })
    }

    /// Returns the bdev's current properties.
    pub fn info(&self) -> BdevInfo {
        // SAFETY: the open descriptor keeps the bdev.
        unsafe { read_info(self.shared.bdev.as_ptr()) }
    }

    /// Returns a handle with which any thread can open channels.
    pub fn handle(&self) -> DescRef {
        DescRef(Arc::clone(&self.shared))
    }
}

impl Drop for Desc {
    fn drop(&mut self) {
        let on_event = self.events.on_event.borrow_mut().take();
        self.shared.closing.store(true, Ordering::Relaxed);
        release(&self.shared);
        // This drop may run inside `on_event`; then its caller holds a reference.
        drop(on_event);
    }
}

impl DescRef {
    /// Opens a channel for I/O from this SPDK thread. `ENODEV`: the [`Desc`] is gone. `ENOMEM`: the
    /// bdev cannot make another channel.
    pub fn channel(&self) -> Result<BackendChannel> {
        if self.0.closing.load(Ordering::Relaxed) {
            return Err(Errno::ENODEV);
        }
        // If the `Desc` is dropped at this moment, the descriptor waits for this channel, too.
        self.0
            .holders
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| (n > 0).then_some(n + 1))
            .map_err(|_| Errno::ENODEV)?;
        // SAFETY: the descriptor is open, since this call has just become one of its holders.
        // Outside an SPDK thread SPDK returns null.
        let ch = unsafe { sys::spdk_bdev_get_io_channel(self.0.raw.as_ptr()) };
        match NonNull::new(ch) {
            Some(ch) => Ok(BackendChannel::new(ch, Arc::clone(&self.0))),
            None => {
                release(&self.0);
                Err(Errno::ENOMEM)
            }
        }
    }
}
