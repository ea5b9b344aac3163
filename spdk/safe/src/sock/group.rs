//! Socket groups: one call finds the readable sockets among many.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use spdk_contract::sock::SockReady;
use spdk_sys as sys;

use super::failure::failure;
use super::{Sock, SockInner};
use crate::errno::{Errno, Result};
use crate::thread;

/// Sockets that one SPDK thread polls together. Clones refer to the same group.
#[derive(Clone)]
pub struct Group(Rc<Inner>);

/// A socket's membership in a group, with a reference to its owner. Dropping it ends both.
///
/// An owner that stores its own `Member` is part of a reference cycle; drop the `Member` to break
/// it. `Member` and [`Sock`] may be dropped in any order, even during a poll.
pub struct Member(Rc<Membership>);

struct Inner {
    raw: *mut sys::spdk_sock_group,
    thread: *mut sys::spdk_thread,
    polling: Cell<bool>,
    /// The number of sockets in the group.
    sockets: Cell<usize>,
    /// The membership whose owner is being called, or null.
    current: Cell<*const Membership>,
    /// Memberships that end after the poll: during it, SPDK walks a list of ready sockets, of which
    /// none may disappear.
    leaving: Cell<Option<Rc<Membership>>>,
}

struct Membership {
    group: Rc<Inner>,
    sock: Arc<SockInner>,
    /// `None` once the `Member` is dropped.
    owner: RefCell<Option<Rc<dyn SockReady>>>,
    next_leaving: Cell<Option<Rc<Membership>>>,
}

impl Group {
    /// Creates a group for the current SPDK thread.
    pub fn create() -> Result<Group> {
        let thread = thread::current_ptr();
        if thread.is_null() {
            return Err(Errno::ESRCH);
        }
        // SAFETY: no context is given, none is used.
        let raw = unsafe { sys::spdk_sock_group_create(ptr::null_mut()) };
        if raw.is_null() {
            return Err(Errno::ENOMEM);
        }
        Ok(Group(Rc::new(Inner {
            raw,
            thread,
            polling: Cell::new(false),
            sockets: Cell::new(0),
            current: Cell::new(ptr::null()),
            leaving: Cell::new(None),
        })))
    }

    #[cfg_attr(not(spdk_sock_interrupts), expect(dead_code, reason = "nothing is watched"))]
    pub(crate) fn raw(&self) -> *mut sys::spdk_sock_group {
        self.0.raw
    }

    /// Returns the number of sockets in the group.
    pub(crate) fn len(&self) -> usize {
        self.0.sockets.get()
    }

    /// Adds `sock` to the group. From now on, [`Group::poll`] calls `owner` when the socket is
    /// readable. `EBUSY`: the socket is in a group, or was removed from one during the current
    /// poll.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>) -> Result<Member> {
        let inner = &sock.inner;
        inner
            .pinned
            .compare_exchange(ptr::null_mut(), self.0.thread, Ordering::Relaxed, Ordering::Relaxed)
            .map_err(|_| Errno::EBUSY)?;
        let place = Rc::new(Membership {
            group: Rc::clone(&self.0),
            sock: Arc::clone(inner),
            owner: RefCell::new(Some(owner)),
            next_leaving: Cell::new(None),
        });
        let arg = Rc::as_ptr(&place).cast_mut().cast::<c_void>();
        crate::errno::clear_last();
        // SAFETY: group and socket are open and on this thread; `arg` stays valid until the socket
        // is removed, since until then the `Member` or the list `leaving` holds a reference.
        let rc = unsafe { sys::spdk_sock_group_add_sock(self.0.raw, inner.raw.as_ptr(), Some(ready), arg) };
        if rc != 0 {
            inner.pinned.store(ptr::null_mut(), Ordering::Relaxed);
            return Err(failure(rc as isize));
        }
        self.0.sockets.set(self.0.sockets.get() + 1);
        Ok(Member(place))
    }

    /// Calls the owners of at most `max_events` readable sockets (SPDK's own limit is 32), and
    /// returns how many were called. `EBUSY`: it was called from an owner. HOT.
    pub fn poll(&self, max_events: usize) -> Result<usize> {
        let group = &*self.0;
        if group.polling.replace(true) {
            return Err(Errno::EBUSY);
        }
        // SAFETY: an open group on its thread; `ready` is called only for members of the group.
        let rc = unsafe { poll_raw(group.raw, max_events) };
        group.polling.set(false);
        while let Some(place) = group.leaving.take() {
            group.leaving.set(place.next_leaving.take());
            place.leave();
        }
        usize::try_from(rc).map_err(|_| failure(rc as isize))
    }
}

#[cfg(spdk_sock_group_poll_count)]
unsafe fn poll_raw(group: *mut sys::spdk_sock_group, max_events: usize) -> i32 {
    // SAFETY: the caller guarantees this.
    unsafe { sys::spdk_sock_group_poll_count(group, max_events.clamp(1, 32) as i32) }
}

#[cfg(not(spdk_sock_group_poll_count))]
unsafe fn poll_raw(group: *mut sys::spdk_sock_group, _max_events: usize) -> i32 {
    // SAFETY: the caller guarantees this.
    unsafe { sys::spdk_sock_group_poll(group) }
}

impl Membership {
    /// Takes the socket out of the group.
    fn leave(&self) {
        // SPDK up to 21.01 records each removal in an array of 32 entries that only a poll empties,
        // and would write a 33rd past its end. This poll calls no owner, see `ready`.
        #[cfg(spdk_sock_removal_list)]
        if !self.group.polling.get() {
            // SAFETY: an open group on its thread.
            unsafe { poll_raw(self.group.raw, 1) };
        }
        // SAFETY: group and socket are open; the socket is in this group until here.
        let rc = unsafe { sys::spdk_sock_group_remove_sock(self.group.raw, self.sock.raw.as_ptr()) };
        assert!(rc == 0, "a socket could not be taken out of its group");
        self.group.sockets.set(self.group.sockets.get() - 1);
        self.sock.pinned.store(ptr::null_mut(), Ordering::Relaxed);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let place = &self.0;
        let group = &place.group;
        let owner = place.owner.borrow_mut().take();
        if group.polling.get() && !ptr::eq(group.current.get(), Rc::as_ptr(place)) {
            place.next_leaving.set(group.leaving.take());
            group.leaving.set(Some(Rc::clone(place)));
        } else {
            place.leave();
        }
        // The owner is dropped last, since it may own other members of the group.
        drop(owner);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut raw = self.raw;
        // SAFETY: the group is open and empty, since every member holds a reference to it.
        unsafe { sys::spdk_sock_group_close(&mut raw) };
    }
}

extern "C" fn ready(arg: *mut c_void, _: *mut sys::spdk_sock_group, _: *mut sys::spdk_sock) {
    let place = arg.cast::<Membership>().cast_const();
    // SAFETY: the socket is in the group, so `place` is valid (see `add`). The reference taken here
    // keeps it during the call, in which the `Member` may be dropped.
    let place = unsafe {
        Rc::increment_strong_count(place);
        Rc::from_raw(place)
    };
    let group = &place.group;
    if !group.polling.get() {
        return;
    }
    let owner = place.owner.borrow().clone();
    if let Some(owner) = owner {
        group.current.set(Rc::as_ptr(&place));
        owner.readable();
        group.current.set(ptr::null());
    }
}
