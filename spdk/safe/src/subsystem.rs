//! Subsystems, which SPDK starts, stops and saves in the order of their dependencies.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use spdk_sys as sys;

use crate::errno::{Errno, Result};
use crate::json;

/// Called to start a subsystem.
pub type Init = fn(InitDone);
/// Called to stop a subsystem.
pub type Fini = fn(FiniDone);
/// Returns the RPCs, `{"method": …, "params": {…}}`, that restore the state of a subsystem.
pub type Config = fn() -> Vec<Value>;

/// Registers a subsystem. Call it from a [`constructor!`](crate::constructor!).
///
/// # Panics
/// If more than `SLOTS` subsystems are registered.
pub fn register(
    name: &'static CStr,
    depends_on: &'static [&'static CStr],
    init: Init,
    fini: Fini,
    config: Config,
) {
    let slot = {
        let mut slots = OPS.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.iter().position(Option::is_none);
        let slot = slot.expect("no slot left for a subsystem: make SLOTS larger");
        slots[slot] = Some(Ops { init, fini, config });
        slot
    };
    let entry = &ENTRIES[slot];
    // SAFETY: pointers and optional functions; all zero is valid, and means "not given".
    let mut subsystem: sys::spdk_subsystem = unsafe { std::mem::zeroed() };
    subsystem.name = name.as_ptr();
    subsystem.init = Some(entry.init);
    subsystem.fini = Some(entry.fini);
    subsystem.write_config_json = Some(entry.config);
    // SAFETY: SPDK keeps these in lists, so they live for ever; constructors run before anything
    // reads the lists.
    unsafe { sys::spdk_add_subsystem(Box::leak(Box::new(subsystem))) };
    for other in depends_on {
        add_dependency(name, other);
    }
}

/// Makes subsystem `name` start after `on`, be saved after it, and stop before it. Call it from a
/// [`constructor!`](crate::constructor!).
pub fn add_dependency(name: &'static CStr, on: &'static CStr) {
    // SAFETY: pointers that are set below. SPDK keeps these in a list, so they live for ever;
    // constructors run before anything reads the list.
    unsafe {
        let mut depend: sys::spdk_subsystem_depend = std::mem::zeroed();
        depend.name = name.as_ptr();
        depend.depends_on = on.as_ptr();
        sys::spdk_add_subsystem_depend(Box::leak(Box::new(depend)));
    }
}

/// Reports that a subsystem has started. If it is dropped, it reports that the subsystem failed.
pub struct InitDone(Once);

/// Reports that a subsystem has stopped, also when it is dropped.
pub struct FiniDone(Once);

/// A report that is due, on the thread on which SPDK asked for it.
struct Once {
    due: bool,
    _not_send: PhantomData<*mut ()>,
}

impl Once {
    const fn new() -> Once {
        Once { due: true, _not_send: PhantomData }
    }
}

impl InitDone {
    /// Lets SPDK continue with the next subsystem, or end the application if this one failed.
    pub fn done(mut self, result: Result<()>) {
        self.report(result);
    }

    fn report(&mut self, result: Result<()>) {
        if std::mem::take(&mut self.0.due) {
            // SAFETY: SPDK waits for it, on this thread, once.
            unsafe { sys::spdk_subsystem_init_next(Errno::to_rc(result)) };
        }
    }
}

impl Drop for InitDone {
    fn drop(&mut self) {
        self.report(Err(Errno::ECANCELED));
    }
}

impl FiniDone {
    /// Lets SPDK continue with the next subsystem.
    pub fn done(self) {}
}

impl Drop for FiniDone {
    fn drop(&mut self) {
        if std::mem::take(&mut self.0.due) {
            // SAFETY: SPDK waits for it, on this thread, once.
            unsafe { sys::spdk_subsystem_fini_next() };
        }
    }
}

#[derive(Clone, Copy)]
struct Ops {
    init: Init,
    fini: Fini,
    config: Config,
}

/// The maximum number of subsystems. SPDK passes no context, so each subsystem has C functions of
/// its own.
const SLOTS: usize = 4;

static OPS: Mutex<[Option<Ops>; SLOTS]> = Mutex::new([None; SLOTS]);

fn ops(slot: usize) -> Option<Ops> {
    OPS.lock().unwrap_or_else(PoisonError::into_inner)[slot]
}

struct Entry {
    init: unsafe extern "C" fn(),
    fini: unsafe extern "C" fn(),
    config: unsafe extern "C" fn(*mut sys::spdk_json_write_ctx),
}

impl Entry {
    const fn of<const SLOT: usize>() -> Entry {
        Entry { init: init::<SLOT>, fini: fini::<SLOT>, config: config::<SLOT> }
    }
}

static ENTRIES: [Entry; SLOTS] = [Entry::of::<0>(), Entry::of::<1>(), Entry::of::<2>(), Entry::of::<3>()];

/// Called when SPDK begins to stop.
static ON_STOP: Mutex<Option<Fini>> = Mutex::new(None);

/// Sets what is called when SPDK begins to stop, before the first subsystem stops, once, on the
/// thread that starts the subsystems. The first subsystem stops when the call's [`FiniDone`] is
/// done. Call this from a [`constructor!`](crate::constructor!), and [`register`] a subsystem too.
pub fn on_stop(call: Fini) {
    *ON_STOP.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
}

/// SPDK begins to stop. Its RPC server may be gone already.
fn stop_begins(done: FiniDone) {
    #[cfg(spdk_rpc_frees_connections)]
    crate::rpc::close();
    let call = ON_STOP.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(call) = call {
        call(done);
    }
}

/// Registers the subsystem that SPDK stops first, which tells of the stop. This is called while
/// SPDK starts its subsystems: their order is then settled, so the new subsystem comes last. SPDK
/// stops subsystems in reverse order, and begins in the same call in which it frees the connections
/// of RPCs, if it does, so nothing of DST runs in between.
fn watch_for_stop() {
    extern "C" fn init() {
        // SAFETY: SPDK waits for it, on this thread, once.
        unsafe { sys::spdk_subsystem_init_next(0) };
    }

    extern "C" fn fini() {
        stop_begins(FiniDone(Once::new()));
    }

    static ADDED: std::sync::Once = std::sync::Once::new();
    ADDED.call_once(|| {
        // SAFETY: pointers and optional functions; all zero is valid, and means "not given".
        let mut subsystem: sys::spdk_subsystem = unsafe { std::mem::zeroed() };
        subsystem.name = c"dst_stop".as_ptr();
        subsystem.init = Some(init);
        subsystem.fini = Some(fini);
        // SAFETY: the structure lives for ever; this is the thread that walks the list, and it
        // continues after the subsystem that is being started.
        unsafe { sys::spdk_add_subsystem(Box::leak(Box::new(subsystem))) };
    });
}

unsafe extern "C" fn init<const SLOT: usize>() {
    watch_for_stop();
    let done = InitDone(Once::new());
    if let Some(ops) = ops(SLOT) {
        (ops.init)(done);
    }
}

unsafe extern "C" fn fini<const SLOT: usize>() {
    // If SPDK is stopped while it starts, this comes without the subsystem that is stopped first,
    // and there is nothing yet to wait for.
    stop_begins(FiniDone(Once { due: false, _not_send: PhantomData }));
    crate::rpc::close();
    let done = FiniDone(Once::new());
    if let Some(ops) = ops(SLOT) {
        (ops.fini)(done);
    }
}

unsafe extern "C" fn config<const SLOT: usize>(w: *mut sys::spdk_json_write_ctx) {
    let calls = ops(SLOT).map_or(Vec::new(), |ops| (ops.config)());
    // SAFETY: SPDK's writer, where the array of this subsystem's calls goes.
    unsafe { json::write(w, &Value::Array(calls)) };
}
