//! From 24.09 on: the group of a socket has a descriptor that wakes an SPDK thread.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use spdk_sys as sys;

use crate::errno::{Errno, Result};
use crate::poller::{State, Waker};
use crate::sock::{Group, Member, Sock, SockReady};

/// Fields in the order in which they have to go.
pub(crate) struct Watch {
    _interrupt: Interrupt,
    _member: Option<Member>,
    /// What the interrupt's argument points to.
    _state: Rc<State>,
}

impl Watch {
    pub(super) fn group(group: Group, waker: &Waker) -> Result<Watch> {
        let state = waker.state().ok_or(Errno::EINVAL)?;
        let arg = Rc::as_ptr(&state).cast_mut().cast::<c_void>();
        Ok(Watch { _interrupt: Interrupt::register(group, arg)?, _member: None, _state: state })
    }

    pub(super) fn sock(sock: &Sock, waker: &Waker) -> Result<Watch> {
        /// The group is only there for its descriptor: nobody polls it.
        struct Nobody;
        impl SockReady for Nobody {
            fn readable(self: Rc<Self>) {}
        }

        let group = Group::create()?;
        let member = group.add(sock, Rc::new(Nobody))?;
        let watch = Watch::group(group, waker)?;
        Ok(Watch { _member: Some(member), ..watch })
    }
}

/// Whether the application is in interrupt mode. HOT.
#[inline]
pub(crate) fn enabled() -> bool {
    // SAFETY: reads a variable that is set before SPDK's threads are.
    unsafe { sys::spdk_interrupt_mode_is_enabled() }
}

/// Has a poller called only when something wakes it, while its thread is in interrupt mode; what the thread's
/// mode is, its state is told.
///
/// # Safety
/// `poller` is registered, on this thread; `state` is its [`State`].
pub(crate) unsafe fn rest_when_asked(poller: *mut sys::spdk_poller, state: *mut c_void) {
    extern "C" fn mode(_: *mut sys::spdk_poller, state: *mut c_void, rests: bool) {
        // SAFETY: the poller is registered, so its state is there.
        unsafe { State::borrowed(state) }.set_rests(rests);
    }
    // SAFETY: the caller's; without a descriptor of ours SPDK takes away the one of its own that it made.
    unsafe { sys::spdk_poller_register_interrupt(poller, Some(mode), state) }
}

extern "C" fn readable(state: *mut c_void) -> c_int {
    // SAFETY: the `Watch`, which has the interrupt, has a count of the state.
    unsafe { State::borrowed(state) }.run()
}

/// Calls [`readable`] for as long as it is there.
#[cfg(spdk_sock_interruptfd)]
struct Interrupt {
    raw: *mut sys::spdk_interrupt,
    /// Whose descriptor it is.
    _group: Group,
}

#[cfg(spdk_sock_interruptfd)]
impl Interrupt {
    fn register(group: Group, state: *mut c_void) -> Result<Interrupt> {
        // SAFETY: an open group on its thread; `state` outlives the interrupt, see `Watch`.
        let raw = unsafe {
            let fd = sys::spdk_sock_group_get_interruptfd(group.raw());
            if fd < 0 {
                return Err(Errno(-fd));
            }
            let events = sys::SPDK_INTERRUPT_EVENT_IN;
            sys::spdk_interrupt_register_for_events(fd, events, Some(readable), state, c"dst".as_ptr())
        };
        if raw.is_null() { Err(Errno::ENOMEM) } else { Ok(Interrupt { raw, _group: group }) }
    }
}

#[cfg(spdk_sock_interruptfd)]
impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: registered, on this thread.
        unsafe { sys::spdk_interrupt_unregister(&mut self.raw) }
    }
}

/// As above; 24.09 to 25.09 register the group itself.
#[cfg(not(spdk_sock_interruptfd))]
struct Interrupt(Group);

#[cfg(not(spdk_sock_interruptfd))]
impl Interrupt {
    fn register(group: Group, state: *mut c_void) -> Result<Interrupt> {
        // SAFETY: an open group on its thread; `state` outlives the interrupt, see `Watch`.
        let rc = unsafe {
            let events = sys::SPDK_INTERRUPT_EVENT_IN;
            sys::spdk_sock_group_register_interrupt(
                group.raw(),
                events,
                Some(readable),
                state,
                c"dst".as_ptr(),
            )
        };
        Errno::check(rc).map(|()| Interrupt(group))
    }
}

#[cfg(not(spdk_sock_interruptfd))]
impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: registered, on this thread.
        unsafe { sys::spdk_sock_group_unregister_interrupt(self.0.raw()) }
    }
}
