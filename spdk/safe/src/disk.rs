//! Disks: bdevs that this crate's user provides, and SPDK's calls to them.

use std::ffi::{CString, c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
pub use spdk_contract::disk::DiskInfo;
use spdk_sys as sys;

use crate::bdev_io::{BdevIo, IoKind, kind_of};
use crate::disk_head::Head;
use crate::errno::{Errno, Result};
use crate::parts::{self, Parts};
use crate::thread::{self, Thread};
use crate::{json, module_address};

/// The implementation of a bdev. SPDK calls it from all its threads; state of one thread is in the
/// `Channel`.
pub trait Disk: Send + Sync + 'static {
    /// A thread's state for I/O.
    type Channel: 'static;

    /// Creates the channel of the current SPDK thread when that thread first opens one, possibly
    /// inside [`register`].
    fn create_channel(&self) -> Result<Rc<Self::Channel>>;

    /// Destroys a thread's channel, on that thread, after its last I/O has completed. This may
    /// happen after [`Disk::destruct`] was called, but not after the destruction has completed.
    fn destroy_channel(channel: Rc<Self::Channel>);

    /// Executes an I/O of a supported kind; a read has its buffer. HOT.
    fn submit(channel: &Rc<Self::Channel>, io: BdevIo);

    /// Returns whether the disk supports this kind of I/O. Never called for [`IoKind::Other`].
    fn supports(&self, kind: IoKind) -> bool;

    /// Returns the value of `dst` in the `driver_specific` object of `bdev_get_bdevs`.
    fn dump_info(&self) -> Value;

    /// Returns the RPCs, `{"method": …, "params": {…}}`, that create this bdev again. It is called
    /// under SPDK's lock and must not use any bdev.
    fn write_config(&self) -> Vec<Value>;

    /// Begins the destruction of the disk, after the bdev was unregistered by
    /// [`Registered::unregister`] or by SPDK and its last user has closed it. It is called on the
    /// thread that unregistered the bdev; before SPDK 23.01, on the one that closed it last. The
    /// disk calls `done` on the same thread when destruction may complete.
    fn destruct(&self, done: DestructDone);
}

/// A registered disk. Owned by SPDK from registration to the end of destruction.
#[repr(C)]
struct DiskBox<D: Disk> {
    head: Head,
    disk: Arc<D>,
    /// The number of blocks at whose multiples reads and writes are split; 0: none.
    boundary: u32,
    /// The number of resets. Each of them ends the I/O that is being sent in parts.
    resets: AtomicU32,
    /// The strings to which `bdev` points.
    _name: CString,
    _product_name: CString,
    handle: Arc<Handle>,
}

/// The address of the bdev; null once its destruction has begun.
struct Handle(Mutex<*mut sys::spdk_bdev>);

// SAFETY: the pointer is passed only to SPDK's functions, on the thread that registered the bdev;
// see `Registered`.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    fn replace(&self, bdev: *mut sys::spdk_bdev) -> *mut sys::spdk_bdev {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), bdev)
    }

    fn get(&self) -> Result<*mut sys::spdk_bdev> {
        let bdev = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bdev.is_null() { Err(Errno::ENODEV) } else { Ok(bdev) }
    }
}

/// A registered bdev. Dropping this handle leaves the bdev registered until SPDK ends. Use it on
/// the thread that handles RPCs.
pub struct Registered<D> {
    handle: Arc<Handle>,
    name: String,
    _not_send: PhantomData<*mut D>,
}

/// Registers a bdev. Modules examine new bdevs at once, so channels may be created and I/O may come
/// before this function returns.
///
/// `EEXIST`: a bdev or alias has this name. `EINVAL`: the name is empty or contains a NUL, or a
/// size is 0. `ESRCH`: the caller is not on an SPDK thread. `ENODEV`: DST's bdev module is not
/// registered.
pub fn register<D: Disk>(disk: Arc<D>, info: DiskInfo) -> Result<Registered<D>> {
    let module = module_address::get().ok_or(Errno::ENODEV)?;
    let home = thread::current_ptr();
    if home.is_null() {
        return Err(Errno::ESRCH);
    }
    if info.name.is_empty() || info.block_size == 0 || info.num_blocks == 0 {
        return Err(Errno::EINVAL);
    }
    let name = CString::new(info.name.as_str()).map_err(|_| Errno::EINVAL)?;
    let product_name = CString::new(info.product_name).map_err(|_| Errno::EINVAL)?;
    // This check precedes SPDK's own, which would log an error.
    if crate::bdev::info(&info.name).is_some() {
        return Err(Errno::EEXIST);
    }
    // SAFETY: pointers, flags and numbers; all zero is valid, and means "not given".
    let mut bdev: sys::spdk_bdev = unsafe { MaybeUninit::zeroed().assume_init() };
    bdev.name = name.as_ptr().cast_mut();
    bdev.product_name = product_name.as_ptr().cast_mut();
    bdev.blocklen = info.block_size;
    bdev.blockcnt = info.num_blocks;
    bdev.write_unit_size = info.write_unit_size;
    bdev.optimal_io_boundary = info.optimal_io_boundary;
    bdev.acwu = info.acwu;
    bdev.required_alignment = info.required_alignment_log2;
    bdev.write_cache = info.write_cache.into();
    bdev.module = module;
    let takes_any_address = info.required_alignment_log2 == 0;
    bdev.fn_table = if takes_any_address { DiskBox::<D>::FN_TABLE } else { DiskBox::<D>::FN_TABLE_ALIGNED };
    // SAFETY: both are 16 bytes, whose order SPDK does not interpret.
    bdev.uuid = unsafe { std::mem::transmute::<[u8; 16], sys::spdk_uuid>(info.uuid) };

    let handle = Arc::new(Handle(Mutex::new(ptr::null_mut())));
    let this = Box::into_raw(Box::new(DiskBox {
        head: Head { bdev, home },
        disk,
        boundary: if info.split_on_boundary { info.optimal_io_boundary } else { 0 },
        resets: AtomicU32::new(0),
        _name: name.clone(),
        _product_name: product_name,
        handle: Arc::clone(&handle),
    }));
    // SAFETY: `this` is valid until destruction, or until taken back below; it is the io_device's
    // address and the bdev's context. SPDK copies the io_device's name. The bdev's name is the
    // string kept in `this`, not `name`, which is dropped.
    let rc = unsafe {
        (*this).head.bdev.name = (*this)._name.as_ptr().cast_mut();
        (*this).head.bdev.ctxt = this.cast::<c_void>();
        sys::spdk_io_device_register(
            this.cast::<c_void>(),
            Some(create_channel::<D>),
            Some(destroy_channel::<D>),
            size_of::<ChannelCtx<D>>() as u32,
            name.as_ptr(),
        );
        handle.replace(ptr::addr_of_mut!((*this).head.bdev));
        sys::spdk_bdev_register(ptr::addr_of_mut!((*this).head.bdev))
    };
    if rc != 0 {
        handle.replace(ptr::null_mut());
        // SAFETY: registered above; SPDK did not take the bdev, so nothing else refers to `this`.
        unsafe { sys::spdk_io_device_unregister(this.cast(), Some(free::<D>)) };
        return Err(Errno(-rc));
    }
    Ok(Registered { handle, name: info.name, _not_send: PhantomData })
}

impl<D: Disk> Registered<D> {
    /// Returns the name of the bdev.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the bdev. SPDK notifies all its users; when all have closed it and the disk is
    /// destroyed, `done` is called on this thread. `ENODEV`: the bdev is gone, or its destruction
    /// has begun. `EBUSY`: it is already being unregistered.
    pub fn unregister<F: FnOnce(Result<()>) + 'static>(&self, done: F) {
        let bdev = match self.handle.get() {
            Ok(bdev) => bdev,
            Err(e) => return done(Err(e)),
        };
        let home = Thread::current().expect("bdevs are unregistered on an SPDK thread");
        let ctx = Box::into_raw(Box::new(Unregistering { home, rc: 0, done })).cast::<c_void>();
        // SAFETY: the bdev is not destroyed yet, since the handle had its address.
        unsafe { sys::spdk_bdev_unregister(bdev, Some(unregistered::<F>), ctx) };
    }

    /// Changes the number of blocks and notifies all users of the bdev. `EBUSY`: the bdev would
    /// shrink while it is open.
    pub fn resize(&self, num_blocks: u64) -> Result<()> {
        let bdev = self.handle.get()?;
        // SAFETY: as for `unregister`.
        Errno::check(unsafe { sys::spdk_bdev_notify_blockcnt_change(bdev, num_blocks) })
    }

    /// Tells SPDK that the answers of [`Disk::supports`] have changed. Before 26.01, SPDK asks each
    /// time; since then it asks when a bdev is registered, and keeps the answers in the bdev. Does
    /// nothing once the bdev's destruction has begun.
    pub fn kinds_changed(&self) {
        #[cfg(spdk_bdev_keeps_io_types)]
        if let Ok(bdev) = self.handle.get() {
            // SAFETY: the bdev is not destroyed yet, since the handle had its address; its context
            // is that of a disk of this type. SPDK writes the aligned word in `register` only, and
            // reads it on all threads.
            unsafe {
                let ctx = (*bdev).ctxt;
                let types = (sys::SPDK_BDEV_IO_TYPE_READ..sys::SPDK_BDEV_NUM_IO_TYPES)
                    .filter(|&raw| io_type_supported::<D>(ctx, raw))
                    .fold(0, |types, raw| types | 1 << raw);
                AtomicU32::from_ptr(ptr::addr_of_mut!((*bdev).io_type_supported)).store(types, Relaxed);
            }
        }
    }
}

/// A caller that waits for the end of a bdev, and its thread.
struct Unregistering<F> {
    home: Thread,
    rc: c_int,
    done: F,
}

/// Called by SPDK when the bdev is destroyed, on the thread that unregistered it; before SPDK
/// 23.01, on the thread of its last user.
extern "C" fn unregistered<F: FnOnce(Result<()>)>(ctx: *mut c_void, rc: c_int) {
    let this = ctx.cast::<Unregistering<F>>();
    // SAFETY: the box of `Registered::unregister`; SPDK calls this once, and `report` only comes
    // after it. `done` is not touched here.
    let home = unsafe {
        (*this).rc = rc;
        (*this).home
    };
    if Thread::current() == Some(home) {
        report::<F>(ctx);
    } else if let Err(e) = home.send_raw(report::<F>, ctx) {
        crate::error!("can't report that a bdev is unregistered: {e}");
    }
}

extern "C" fn report<F: FnOnce(Result<()>)>(ctx: *mut c_void) {
    // SAFETY: the box of `Registered::unregister`, at home; called once.
    let this = *unsafe { Box::from_raw(ctx.cast::<Unregistering<F>>()) };
    (this.done)(Errno::check(this.rc));
}

/// Signals that destruction may complete.
#[must_use = "the bdev is not gone until done() is called"]
pub struct DestructDone {
    end: unsafe fn(*mut c_void),
    this: *mut c_void,
}

impl DestructDone {
    /// Frees the bdev once its last channel is gone, and reports this to the caller that
    /// unregistered it. Call it on the thread on which [`Disk::destruct`] was called.
    pub fn done(self) {
        // SAFETY: the value was made for one call of `destruct` for its own disk, and is consumed
        // here, so `end` is called once.
        unsafe { (self.end)(self.this) }
    }
}

impl<D: Disk> DiskBox<D> {
    const FN_TABLE: &'static sys::spdk_bdev_fn_table = &Self::fn_table(submit_request::<D>);

    /// The table of a disk that requires an alignment of data in memory.
    const FN_TABLE_ALIGNED: &'static sys::spdk_bdev_fn_table = &Self::fn_table(submit_aligned::<D>);

    const fn fn_table(
        submit: unsafe extern "C" fn(*mut sys::spdk_io_channel, *mut sys::spdk_bdev_io),
    ) -> sys::spdk_bdev_fn_table {
        // SAFETY: optional functions; all zero is valid, and means "none".
        let mut table: sys::spdk_bdev_fn_table = unsafe { MaybeUninit::zeroed().assume_init() };
        table.destruct = Some(destruct::<D>);
        table.submit_request = Some(submit);
        table.io_type_supported = Some(io_type_supported::<D>);
        table.get_io_channel = Some(get_io_channel);
        table.dump_info_json = Some(dump_info_json::<D>);
        table.write_config_json = Some(write_config_json::<D>);
        table
    }

    /// # Safety
    /// `ctx` is the context of a bdev of this type that is not destroyed.
    unsafe fn disk<'a>(ctx: *mut c_void) -> &'a D {
        // SAFETY: the caller guarantees this; the disk lives as long as the box.
        unsafe { &*Arc::as_ptr(&(*ctx.cast::<DiskBox<D>>()).disk) }
    }
}

/// What SPDK keeps for each channel.
struct ChannelCtx<D: Disk> {
    channel: Rc<D::Channel>,
    parts: Parts,
}

/// # Safety
/// `ch` is a channel of a disk of this type.
#[inline]
unsafe fn channel_ctx<D: Disk>(ch: *mut sys::spdk_io_channel) -> *mut ChannelCtx<D> {
    // SAFETY: the caller guarantees this.
    unsafe { sys::dst_spdk_io_channel_get_ctx(ch).cast() }
}

/// # Safety
/// `ch` is a channel of a disk of this type.
#[inline]
unsafe fn channel_of<'a, D: Disk>(ch: *mut sys::spdk_io_channel) -> &'a Rc<D::Channel> {
    // SAFETY: `create_channel` left it there; SPDK destroys the channel by a message, never inside
    // a call to us.
    unsafe { &(*channel_ctx::<D>(ch)).channel }
}

extern "C" fn create_channel<D: Disk>(this: *mut c_void, ctx: *mut c_void) -> c_int {
    // SAFETY: the io_device is registered, so its box is there.
    match unsafe { DiskBox::<D>::disk(this) }.create_channel() {
        Ok(channel) => {
            // SAFETY: room for a `ChannelCtx`, which has pointers and is aligned as one: it follows
            // a structure of pointers.
            unsafe { ctx.cast::<ChannelCtx<D>>().write(ChannelCtx { channel, parts: Parts::new() }) };
            0
        }
        Err(e) => Errno::to_rc(Err(e)),
    }
}

extern "C" fn destroy_channel<D: Disk>(_this: *mut c_void, ctx: *mut c_void) {
    // SAFETY: written by `create_channel`, never read again.
    let ChannelCtx { channel, parts: _ } = unsafe { ctx.cast::<ChannelCtx<D>>().read() };
    D::destroy_channel(channel);
}

extern "C" fn get_io_channel(ctx: *mut c_void) -> *mut sys::spdk_io_channel {
    // SAFETY: the bdev's context is its io_device too.
    unsafe { sys::spdk_get_io_channel(ctx) }
}

extern "C" fn submit_request<D: Disk>(ch: *mut sys::spdk_io_channel, raw: *mut sys::spdk_bdev_io) {
    // SAFETY: a submitted I/O of our module; for a read SPDK has filled in the vectors.
    unsafe {
        let bdev_io = &(*raw);
        if u32::from(bdev_io.type_) == sys::SPDK_BDEV_IO_TYPE_READ {
            let iovs = bdev_io.u.bdev.iovs;
            if iovs.is_null() || (*iovs).iov_base.is_null() {
                let bytes = bdev_io.u.bdev.num_blocks * u64::from((*bdev_io.bdev).blocklen);
                sys::spdk_bdev_io_get_buf(raw, Some(got_buffer::<D>), bytes);
                return;
            }
        }
        submit::<D>(ch, raw);
    }
}

/// Submits an I/O to a disk that requires an alignment: SPDK copies data that is not aligned, or
/// fails the I/O if the data is too long to be copied.
extern "C" fn submit_aligned<D: Disk>(ch: *mut sys::spdk_io_channel, raw: *mut sys::spdk_bdev_io) {
    // SAFETY: a submitted I/O of our module.
    unsafe {
        match u32::from((*raw).type_) {
            sys::SPDK_BDEV_IO_TYPE_READ | sys::SPDK_BDEV_IO_TYPE_WRITE => {
                let bytes = (*raw).u.bdev.num_blocks * u64::from((*(*raw).bdev).blocklen);
                sys::spdk_bdev_io_get_buf(raw, Some(got_buffer::<D>), bytes);
            }
            _ => submit::<D>(ch, raw),
        }
    }
}

extern "C" fn got_buffer<D: Disk>(ch: *mut sys::spdk_io_channel, raw: *mut sys::spdk_bdev_io, success: bool) {
    // SAFETY: the I/O of `submit_request`, with a buffer now, or with none and to be completed.
    unsafe {
        if success {
            submit::<D>(ch, raw);
        } else {
            sys::spdk_bdev_io_complete(raw, sys::SPDK_BDEV_IO_STATUS_FAILED);
        }
    }
}

/// # Safety
/// `raw` was submitted on this thread to `ch`, a channel of a disk of this type.
#[inline]
unsafe fn submit<D: Disk>(ch: *mut sys::spdk_io_channel, raw: *mut sys::spdk_bdev_io) {
    // SAFETY: the caller guarantees this.
    if let Some(io) = unsafe { BdevIo::from_submitted(raw) } {
        // The disk is not asked again: SPDK submits only what `io_type_supported` allows, and that
        // never allows `Other`.
        if io.kind() == IoKind::Other {
            return;
        }
        // SAFETY: the caller guarantees this; the vectors were looked at, and a bdev of this type
        // is the first of a box.
        unsafe {
            let this = (*raw).bdev.cast::<DiskBox<D>>();
            let boundary = (*this).boundary;
            let is_split = matches!(io.kind(), IoKind::Read | IoKind::Write)
                && parts::has_parts(io.offset_blocks(), io.num_blocks(), boundary);
            if is_split {
                let parts = ptr::addr_of_mut!((*channel_ctx::<D>(ch)).parts);
                return parts::split(
                    io.into_raw(),
                    ch,
                    parts,
                    submit_part::<D>,
                    &raw const (*this).resets,
                    boundary,
                );
            }
            if io.kind() == IoKind::Reset {
                (*this).resets.fetch_add(1, Relaxed);
            }
            D::submit(channel_of::<D>(ch), io);
        }
    }
}

/// # Safety
/// `ch` is a channel of a disk of this type, on whose thread this is.
unsafe fn submit_part<D: Disk>(ch: *mut sys::spdk_io_channel, part: BdevIo) {
    // SAFETY: the caller guarantees this.
    D::submit(unsafe { channel_of::<D>(ch) }, part);
}

extern "C" fn io_type_supported<D: Disk>(ctx: *mut c_void, raw: sys::spdk_bdev_io_type) -> bool {
    match kind_of(raw) {
        IoKind::Other => false,
        // SAFETY: SPDK asks of registered bdevs.
        kind => unsafe { DiskBox::<D>::disk(ctx) }.supports(kind),
    }
}

extern "C" fn dump_info_json<D: Disk>(ctx: *mut c_void, w: *mut sys::spdk_json_write_ctx) -> c_int {
    // SAFETY: SPDK asks of registered bdevs; its writer is inside an object.
    unsafe {
        let info = DiskBox::<D>::disk(ctx).dump_info();
        json::write_member(w, "dst", &info);
    }
    0
}

extern "C" fn write_config_json<D: Disk>(bdev: *mut sys::spdk_bdev, w: *mut sys::spdk_json_write_ctx) {
    // SAFETY: SPDK asks of registered bdevs; its writer is inside an array.
    unsafe {
        for call in DiskBox::<D>::disk((*bdev).ctxt).write_config() {
            json::write(w, &call);
        }
    }
}

extern "C" fn destruct<D: Disk>(ctx: *mut c_void) -> c_int {
    let this = ctx.cast::<DiskBox<D>>();
    // SAFETY: the box is freed at the end of `DestructDone::done`, at the earliest after this
    // thread's next message. `disk` is a reference of its own, since the box's reference may be
    // dropped there.
    let disk = unsafe {
        (*this).handle.replace(ptr::null_mut());
        Arc::clone(&(*this).disk)
    };
    disk.destruct(DestructDone { end: end_destruct::<D>, this: ctx });
    // 1 tells SPDK that spdk_bdev_destruct_done() will be called later.
    1
}

/// # Safety
/// `this` is a `DiskBox<D>` whose `destruct` has been called.
unsafe fn end_destruct<D: Disk>(this: *mut c_void) {
    // SAFETY: registered in `register`; the callback comes by a message, when the last channel has
    // gone.
    unsafe { sys::spdk_io_device_unregister(this, Some(destructed::<D>)) };
}

extern "C" fn destructed<D: Disk>(this: *mut c_void) {
    // SAFETY: SPDK waits for this call, and uses the bdev no more after it.
    unsafe { sys::spdk_bdev_destruct_done(ptr::addr_of_mut!((*this.cast::<DiskBox<D>>()).head.bdev), 0) };
    free::<D>(this);
}

extern "C" fn free<D: Disk>(this: *mut c_void) {
    // SAFETY: the box comes from `Box::into_raw` in `register`; neither SPDK nor the io_device
    // refers to it now.
    drop(unsafe { Box::from_raw(this.cast::<DiskBox<D>>()) });
}
