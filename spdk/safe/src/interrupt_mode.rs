//! Whether the application is in interrupt mode, and how a poller is told. What wakes a resting
//! poller is in [`interrupt`](crate::interrupt).

use std::ffi::c_void;

use spdk_sys as sys;

/// Called with a poller, its state, and whether its thread is in interrupt mode from now on.
pub(crate) type OnMode = unsafe extern "C" fn(*mut sys::spdk_poller, *mut c_void, bool);

/// Returns whether the application is in interrupt mode. HOT.
#[cfg(spdk_sock_interrupts)]
#[inline]
pub(crate) fn enabled() -> bool {
    // SAFETY: reads a variable that is set before SPDK's threads are.
    unsafe { sys::spdk_interrupt_mode_is_enabled() }
}

/// Returns false: before 24.09 nothing wakes a thread when a socket is readable, so no poller
/// rests. HOT.
#[cfg(not(spdk_sock_interrupts))]
#[inline]
pub(crate) fn enabled() -> bool {
    false
}

/// Makes SPDK call a poller only when something wakes it while its thread is in interrupt mode, and
/// makes SPDK call `on_mode` when the thread's mode changes.
///
/// # Safety
/// `poller` is registered, on this thread; `on_mode` may be called with `state` for as long as it
/// is.
#[cfg(spdk_sock_interrupts)]
pub(crate) unsafe fn rest_when_asked(poller: *mut sys::spdk_poller, on_mode: OnMode, state: *mut c_void) {
    // SAFETY: the caller guarantees this; since no file descriptor is given, SPDK removes the one
    // that it made itself.
    unsafe { sys::spdk_poller_register_interrupt(poller, Some(on_mode), state) }
}

/// Does nothing.
///
/// # Safety
/// None is needed.
#[cfg(not(spdk_sock_interrupts))]
pub(crate) unsafe fn rest_when_asked(_: *mut sys::spdk_poller, _: OnMode, _: *mut c_void) {}
