//! SPDK threads, and values that belong to one of them.
//!
//! An SPDK thread is a queue of messages and a list of pollers which some OS thread runs. Whatever in this
//! crate is not `Send` belongs to the SPDK thread on which it was made; nothing here may be kept in a
//! `thread_local!`, because several SPDK threads share an OS thread: unless its thread stays on its core, and
//! is the only one there that keeps such a thing.

use std::ffi::{CString, c_void};
use std::mem::ManuallyDrop;
use std::ptr;

use spdk_sys as sys;

use crate::errno::{Errno, Result};

/// A handle of an SPDK thread, valid everywhere. It does not keep the thread alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Thread {
    /// Never used again after the thread is gone, unlike its address.
    id: u64,
}

impl Thread {
    /// The SPDK thread that is running, if one is.
    pub fn current() -> Option<Thread> {
        let thread = current_ptr();
        if thread.is_null() {
            return None;
        }
        // SAFETY: the running thread exists.
        let id = unsafe { sys::spdk_thread_get_id(thread) };
        Some(Thread { id })
    }

    /// Makes a thread that runs on `core` only. `name` is cut to what SPDK stores.
    ///
    /// `EINVAL` when `core` is not one of [`cores`] or `name` holds a NUL.
    pub fn create(name: &str, core: u32) -> Result<Thread> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        if !cores().contains(&core) {
            return Err(Errno::EINVAL);
        }
        // SAFETY: a fresh set, used and freed below only; SPDK copies set and name.
        let thread = unsafe {
            let set = sys::spdk_cpuset_alloc();
            if set.is_null() {
                return Err(Errno::ENOMEM);
            }
            sys::spdk_cpuset_set_cpu(set, core, true);
            let thread = sys::spdk_thread_create(name.as_ptr(), set);
            sys::spdk_cpuset_free(set);
            thread
        };
        if thread.is_null() {
            return Err(Errno::ENOMEM);
        }
        bind(thread);
        // SAFETY: it was just made, and exits only when somebody who has its handle says so.
        let id = unsafe { sys::spdk_thread_get_id(thread) };
        Ok(Thread { id })
    }

    /// Runs `f` on this thread, later, in the order of sending. Any OS thread may call it.
    ///
    /// When it cannot be sent (`ESRCH`: the thread is gone; else SPDK is short of messages) `f` is dropped
    /// at once, here. The caller sees to it that the thread does not exit during the call.
    pub fn send<F: FnOnce() + Send + 'static>(&self, f: F) -> Result<()> {
        extern "C" fn run<F: FnOnce()>(ctx: *mut c_void) {
            // SAFETY: `ctx` is the box sent below; SPDK runs a message once.
            let f = unsafe { Box::from_raw(ctx.cast::<F>()) };
            f();
        }

        let ctx = Box::into_raw(Box::new(f)).cast::<c_void>();
        let sent = self.send_raw(run::<F>, ctx);
        if sent.is_err() {
            // SAFETY: not sent, so the box is still ours.
            drop(unsafe { Box::from_raw(ctx.cast::<F>()) });
        }
        sent
    }

    /// Calls `run` with `ctx` on this thread, later. When that can't be sent, nothing is done with `ctx`.
    pub(crate) fn send_raw(&self, run: extern "C" fn(*mut c_void), ctx: *mut c_void) -> Result<()> {
        let to = self.lookup();
        if to.is_null() {
            return Err(Errno::ESRCH);
        }
        // SAFETY: the thread exists (the caller keeps it from exiting meanwhile). What `run` does with `ctx` is its
        // own affair.
        Errno::check(unsafe { sys::spdk_thread_send_msg(to, Some(run), ctx) })
    }

    /// Ends the thread, once its messages so far are done. Its pollers, channels and sockets must be gone.
    pub fn exit(self) {
        if Thread::current() == Some(self) {
            // SAFETY: called on the thread itself, as SPDK demands.
            unsafe { sys::spdk_thread_exit(current_ptr()) };
        } else if let Err(e) = self.send(move || self.exit()) {
            crate::error!("cannot end thread {}: {e}", self.id);
        }
    }

    /// The thread's address, or null when it is gone.
    fn lookup(self) -> *mut sys::spdk_thread {
        // SAFETY: SPDK walks its list of threads under its own lock.
        unsafe { sys::spdk_thread_get_by_id(self.id) }
    }
}

/// The running thread stays where it is, whatever mask of CPUs it is given, as those of [`Thread::create`] do: for
/// who keeps something in a [`thread_local!`](crate::thread_local!). Before SPDK 23.05 that can't be said.
pub fn stay() {
    let thread = current_ptr();
    if !thread.is_null() {
        bind(thread);
    }
}

/// Binds a thread, which exists, to its core.
fn bind(thread: *mut sys::spdk_thread) {
    #[cfg(spdk_thread_bind)]
    // SAFETY: the caller's; writes to the thread.
    unsafe {
        sys::spdk_thread_bind(thread, true);
    }
    #[cfg(not(spdk_thread_bind))]
    let _ = thread;
}

/// The running SPDK thread, null when there is none. HOT.
#[inline]
pub(crate) fn current_ptr() -> *mut sys::spdk_thread {
    // SAFETY: reads a thread-local variable of SPDK.
    unsafe { sys::spdk_get_thread() }
}

/// All cores of the application, in SPDK's order.
pub fn cores() -> Vec<u32> {
    // SAFETY: reads the environment's list of cores.
    let first = unsafe { sys::spdk_env_get_first_core() };
    std::iter::successors(Some(first), |core| {
        // SAFETY: as above.
        Some(unsafe { sys::spdk_env_get_next_core(*core) })
    })
    .take_while(|core| *core != u32::MAX)
    .collect()
}

/// A value that stays on the SPDK thread where it was wrapped, but whose wrapper may travel: the way for the
/// closure of [`Thread::send`] to carry a reference that is only good at home.
///
/// Opening it elsewhere panics. Dropped elsewhere, the value is leaked, with a line in the log.
pub struct Local<T> {
    home: Thread,
    value: ManuallyDrop<T>,
}

// SAFETY: the value is reached, and dropped, only on the SPDK thread where it was wrapped: `home` is checked
// each time. SPDK runs a thread on one OS thread at a time, and hands over with the barriers that takes.
unsafe impl<T> Send for Local<T> {}
// SAFETY: as above; a reference to the wrapper gives access at home only.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// Wraps `value`, on the SPDK thread it belongs to.
    ///
    /// # Panics
    /// Where no SPDK thread is running.
    pub fn new(value: T) -> Local<T> {
        let home = Thread::current().expect("a Local is made on an SPDK thread");
        Local { home, value: ManuallyDrop::new(value) }
    }

    /// The thread that may open it.
    pub fn home(&self) -> Thread {
        self.home
    }

    /// The value, at home.
    ///
    /// # Panics
    /// On any other thread.
    pub fn get(&self) -> &T {
        self.assert_home();
        &self.value
    }

    /// The value itself, at home.
    ///
    /// # Panics
    /// On any other thread.
    pub fn into_inner(self) -> T {
        self.assert_home();
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used again nor dropped, so the value is moved out once.
        unsafe { ptr::read(&*this.value) }
    }

    fn assert_home(&self) {
        assert!(
            Thread::current() == Some(self.home),
            "a value of SPDK thread {} was opened on another",
            self.home.id
        );
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if Thread::current() == Some(self.home) {
            // SAFETY: dropped once, here, on its own thread.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        } else if std::mem::needs_drop::<T>() {
            crate::error!("leaked a {}: dropped away from its thread", std::any::type_name::<T>());
        }
    }
}

/// `std::thread_local!`, for what belongs to a reactor's OS thread. A macro of this crate's, so that the
/// simulator, which has many reactors on one OS thread, can mean something else by it.
#[macro_export]
macro_rules! thread_local {
    ($($declarations:tt)*) => { ::std::thread_local! { $($declarations)* } };
}
