//! SPDK 24.09 and newer: a socket group has a file descriptor that wakes an SPDK thread.

use std::ffi::{c_int, c_void};
use std::rc::Rc;

use spdk_sys as sys;

use crate::errno::{Errno, Result};
use crate::poller::{PollerState, Waker};
use crate::sock::{Group, Member, Sock, SockReady};

/// The fields are in the order in which they must be dropped.
pub(crate) struct Watch {
    _interrupt: Registration,
    _member: Option<Member>,
    /// The state to which the interrupt's argument points.
    _state: Rc<PollerState>,
}

impl Watch {
    pub(super) fn group(group: Group, waker: &Waker) -> Result<Watch> {
        let state = waker.state().ok_or(Errno::EINVAL)?;
        let arg = Rc::as_ptr(&state).cast_mut().cast::<c_void>();
        Ok(Watch { _interrupt: Registration::register(group, arg)?, _member: None, _state: state })
    }

    pub(super) fn sock(sock: &Sock, waker: &Waker) -> Result<Watch> {
        /// The owner of a socket in a group that exists only for its file descriptor and is never
        /// polled.
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

extern "C" fn readable(state: *mut c_void) -> c_int {
    // SAFETY: the `Watch` owns the interrupt and holds a reference to the state.
    unsafe { PollerState::borrowed(state) }.run()
}

/// Calls [`readable`] for as long as it exists.
#[cfg(spdk_sock_interruptfd)]
struct Registration {
    raw: *mut sys::spdk_interrupt,
    /// The group to which the file descriptor belongs.
    _group: Group,
}

#[cfg(spdk_sock_interruptfd)]
impl Registration {
    fn register(group: Group, state: *mut c_void) -> Result<Registration> {
        // SAFETY: an open group on its thread; `state` outlives the interrupt, see `Watch`.
        let raw = unsafe {
            let fd = sys::spdk_sock_group_get_interruptfd(group.raw());
            if fd < 0 {
                return Err(Errno(-fd));
            }
            let events = sys::SPDK_INTERRUPT_EVENT_IN;
            sys::spdk_interrupt_register_for_events(fd, events, Some(readable), state, c"dst".as_ptr())
        };
        if raw.is_null() { Err(Errno::ENOMEM) } else { Ok(Registration { raw, _group: group }) }
    }
}

#[cfg(spdk_sock_interruptfd)]
impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: registered, on this thread.
        unsafe { sys::spdk_interrupt_unregister(&mut self.raw) }
    }
}

/// The same for SPDK 24.09 to 25.09, where the group itself is registered.
#[cfg(not(spdk_sock_interruptfd))]
struct Registration(Group);

#[cfg(not(spdk_sock_interruptfd))]
impl Registration {
    fn register(group: Group, state: *mut c_void) -> Result<Registration> {
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
        Errno::check(rc).map(|()| Registration(group))
    }
}

#[cfg(not(spdk_sock_interruptfd))]
impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: registered, on this thread.
        unsafe { sys::spdk_sock_group_unregister_interrupt(self.0.raw()) }
    }
}
