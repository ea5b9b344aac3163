//! Groups of sockets: one call finds out which of many are readable.

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

/// Sockets that one SPDK thread polls together. Clones are the same group.
#[derive(Clone)]
pub struct Group(Rc<Inner>);

/// A socket's place in a group, and a share in its owner. Dropping it ends both.
///
/// An owner that stores its `Member` and is kept by nothing else is a cycle: drop the `Member` to end it.
/// `Member` and [`Sock`] may be dropped in any order, during a poll too.
pub struct Member(Rc<Place>);

struct Inner {
    raw: *mut sys::spdk_sock_group,
    thread: *mut sys::spdk_thread,
    polling: Cell<bool>,
    /// Sockets in it.
    sockets: Cell<usize>,
    /// The place whose owner is being called, null when none is.
    current: Cell<*const Place>,
    /// Places to give up when the poll is over: SPDK has a list of ready sockets in hand, and must not find
    /// one gone.
    leaving: Cell<Option<Rc<Place>>>,
}

struct Place {
    group: Rc<Inner>,
    sock: Arc<SockInner>,
    /// `None` once the `Member` is dropped.
    owner: RefCell<Option<Rc<dyn SockReady>>>,
    next_leaving: Cell<Option<Rc<Place>>>,
}

impl Group {
    /// A group for the current SPDK thread.
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

    /// Sockets in it.
    pub(crate) fn len(&self) -> usize {
        self.0.sockets.get()
    }

    /// Puts `sock` into the group: from now on [`Group::poll`] calls `owner` when it is readable. `EBUSY`: it
    /// is in a group, or was dropped from one in the poll that is going on.
    pub fn add<T: SockReady + 'static>(&self, sock: &Sock, owner: Rc<T>) -> Result<Member> {
        let inner = &sock.inner;
        inner
            .pinned
            .compare_exchange(ptr::null_mut(), self.0.thread, Ordering::Relaxed, Ordering::Relaxed)
            .map_err(|_| Errno::EBUSY)?;
        let place = Rc::new(Place {
            group: Rc::clone(&self.0),
            sock: Arc::clone(inner),
            owner: RefCell::new(Some(owner)),
            next_leaving: Cell::new(None),
        });
        let arg = Rc::as_ptr(&place).cast_mut().cast::<c_void>();
        crate::errno::clear_last();
        // SAFETY: group and socket are open, and on this thread; `arg` stays valid until the socket is
        // removed, since until then the `Member` or the list `leaving` holds a count.
        let rc = unsafe { sys::spdk_sock_group_add_sock(self.0.raw, inner.raw.as_ptr(), Some(ready), arg) };
        if rc != 0 {
            inner.pinned.store(ptr::null_mut(), Ordering::Relaxed);
            return Err(failure(rc as isize));
        }
        self.0.sockets.set(self.0.sockets.get() + 1);
        Ok(Member(place))
    }

    /// Calls the owners of readable sockets, at most `max_events` (SPDK's own limit is 32) of them. The
    /// number called. `EBUSY` when called from an owner. HOT.
    pub fn poll(&self, max_events: usize) -> Result<usize> {
        let group = &*self.0;
        if group.polling.replace(true) {
            return Err(Errno::EBUSY);
        }
        // SAFETY: an open group on its thread; `ready` reaches only places that are in it.
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
    // SAFETY: the caller's.
    unsafe { sys::spdk_sock_group_poll_count(group, max_events.clamp(1, 32) as i32) }
}

#[cfg(not(spdk_sock_group_poll_count))]
unsafe fn poll_raw(group: *mut sys::spdk_sock_group, _max_events: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { sys::spdk_sock_group_poll(group) }
}

impl Place {
    /// Takes the socket out of the group.
    fn leave(&self) {
        // SPDK up to 21.01 notes each removal in an array of 32 that only a poll empties: a 33rd without a
        // poll would be written past its end. This poll calls nobody, see `ready`.
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
        // Last: it may be what owns this very `Member`'s neighbours.
        drop(owner);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut raw = self.raw;
        // SAFETY: open, and empty: every socket's place holds a count of this.
        unsafe { sys::spdk_sock_group_close(&mut raw) };
    }
}

extern "C" fn ready(arg: *mut c_void, _: *mut sys::spdk_sock_group, _: *mut sys::spdk_sock) {
    let place = arg.cast::<Place>().cast_const();
    // SAFETY: the socket is in the group, so its place exists (see `add`); the count taken here keeps it
    // during the call, in which the `Member` may go.
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
