//! SPDK threads, and values that belong to one of them.
//!
//! An SPDK thread is a queue of messages and a list of pollers, which an OS thread runs. Every
//! object of this crate that is not `Send` belongs to the SPDK thread on which it was created. No
//! such object may be kept in a `thread_local!`, because several SPDK threads share an OS thread.
//! The exception is a thread that stays on its core and is the only one there that keeps such an
//! object.

use std::ffi::{CString, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::time::Duration;

use spdk_sys as sys;

use crate::errno::{Errno, Result};

/// How long an OS thread waits before it tries again to send to a thread, when SPDK is short of
/// messages.
pub(crate) const SEND_RETRY: Duration = Duration::from_millis(10);

/// Runs a closure that was boxed for a message. SPDK runs a message once.
extern "C" fn run_boxed<F: FnOnce()>(ctx: *mut c_void) {
    // SAFETY: `ctx` is the box that was sent.
    let f = unsafe { Box::from_raw(ctx.cast::<F>()) };
    f();
}

/// A handle to an SPDK thread, valid on any thread. It does not keep the SPDK thread alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Thread {
    /// The id, which is never reused after the thread is gone, unlike its address.
    id: u64,
}

impl Thread {
    /// Returns the running SPDK thread, if there is one.
    pub fn current() -> Option<Thread> {
        let thread = current_ptr();
        if thread.is_null() {
            return None;
        }
        // SAFETY: the running thread exists.
        let id = unsafe { sys::spdk_thread_get_id(thread) };
        Some(Thread { id })
    }

    /// Creates a thread that runs only on `core`. SPDK truncates `name` if it is too long.
    ///
    /// `EINVAL`: `core` is not one of [`cores`], or `name` contains a NUL.
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
        // SAFETY: the thread was just created, and exits only when a holder of its handle asks for
        // it.
        let id = unsafe { sys::spdk_thread_get_id(thread) };
        Ok(Thread { id })
    }

    /// Runs `f` on this thread later, in the order of sending. Any OS thread may call it.
    ///
    /// If `f` cannot be sent (`ESRCH`: the thread is gone; other errors: SPDK is short of
    /// messages), it is dropped at once, on the calling thread. The caller must ensure that the
    /// thread does not exit during the call.
    pub fn send<F: FnOnce() + Send + 'static>(&self, f: F) -> Result<()> {
        let ctx = Box::into_raw(Box::new(f)).cast::<c_void>();
        let sent = self.send_raw(run_boxed::<F>, ctx);
        if sent.is_err() {
            // SAFETY: not sent, so the box is still ours.
            drop(unsafe { Box::from_raw(ctx.cast::<F>()) });
        }
        sent
    }

    /// Does the same, but waits while SPDK is short of messages; an OS thread that is no reactor's
    /// may do that. If the thread is gone, `f` is dropped.
    pub(crate) fn send_patiently<F: FnOnce() + Send + 'static>(&self, f: F) {
        let ctx = Box::into_raw(Box::new(f)).cast::<c_void>();
        loop {
            match self.send_raw(run_boxed::<F>, ctx) {
                Ok(()) => return,
                Err(Errno::ESRCH) => break,
                Err(_) => std::thread::sleep(SEND_RETRY),
            }
        }
        // SAFETY: not sent, so the box is still ours.
        drop(unsafe { Box::from_raw(ctx.cast::<F>()) });
    }

    /// Calls `run` with `ctx` on this thread later. If the message cannot be sent, `ctx` is not
    /// touched.
    pub(crate) fn send_raw(&self, run: extern "C" fn(*mut c_void), ctx: *mut c_void) -> Result<()> {
        let to = self.lookup();
        if to.is_null() {
            return Err(Errno::ESRCH);
        }
        // SAFETY: the thread exists (the caller keeps it from exiting meanwhile). `run` is
        // responsible for `ctx`.
        Errno::check(unsafe { sys::spdk_thread_send_msg(to, Some(run), ctx) })
    }

    /// Ends the thread once its current messages are done. Its pollers, channels and sockets must
    /// be gone.
    pub fn exit(self) {
        if Thread::current() == Some(self) {
            // SAFETY: called on the thread itself, as SPDK demands.
            unsafe { sys::spdk_thread_exit(current_ptr()) };
        } else if let Err(e) = self.send(move || self.exit()) {
            crate::error!("can't end thread {}: {e}", self.id);
        }
    }

    /// Returns the thread's address, or null if it is gone.
    fn lookup(self) -> *mut sys::spdk_thread {
        // SAFETY: SPDK walks its list of threads under its own lock.
        unsafe { sys::spdk_thread_get_by_id(self.id) }
    }
}

/// Binds the running thread to its core, whatever CPU mask it is given later, as [`Thread::create`]
/// does. Threads that keep objects in a [`thread_local!`](crate::thread_local!) need this. Before
/// SPDK 23.05 it is impossible, and this does nothing.
pub fn stay() {
    let thread = current_ptr();
    if !thread.is_null() {
        bind(thread);
    }
}

/// Binds an existing thread to its core.
fn bind(thread: *mut sys::spdk_thread) {
    #[cfg(spdk_thread_bind)]
    // SAFETY: the caller guarantees this; writes to the thread.
    unsafe {
        sys::spdk_thread_bind(thread, true);
    }
    #[cfg(not(spdk_thread_bind))]
    let _ = thread;
}

/// Returns the running SPDK thread, or null if there is none. HOT.
#[inline]
pub(crate) fn current_ptr() -> *mut sys::spdk_thread {
    // SAFETY: reads a thread-local variable of SPDK.
    unsafe { sys::spdk_get_thread() }
}

/// Returns all cores of the application, in SPDK's order.
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

/// Returns the place among [`cores`] of the one that runs this OS thread, or `None` if it is no
/// reactor's.
pub fn core_index() -> Option<usize> {
    // SAFETY: reads a value of this OS thread.
    let current = unsafe { sys::spdk_env_get_current_core() };
    cores().into_iter().position(|core| core == current)
}

/// A value that stays on the SPDK thread on which it was wrapped, while the wrapper may move to
/// other threads. It lets a closure for [`Thread::send`] carry a reference that is valid only on
/// its home thread.
///
/// Accessing the value on another thread panics. If the wrapper is dropped on another thread, the
/// value is leaked and a line is logged.
pub struct Local<T> {
    home: Thread,
    value: ManuallyDrop<T>,
}

// SAFETY: the value is accessed and dropped only on the SPDK thread on which it was wrapped: `home`
// is checked each time. SPDK runs a thread on one OS thread at a time, and moves it with the
// necessary barriers.
unsafe impl<T> Send for Local<T> {}
// SAFETY: as above; a reference to the wrapper gives access only on the home thread.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// Wraps `value` on the SPDK thread to which it belongs.
    ///
    /// # Panics
    /// If no SPDK thread is running.
    pub fn new(value: T) -> Local<T> {
        let home = Thread::current().expect("a Local is created on an SPDK thread");
        Local { home, value: ManuallyDrop::new(value) }
    }

    /// Returns the home thread, which may access the value.
    pub fn home(&self) -> Thread {
        self.home
    }

    /// Returns a reference to the value, on its home thread.
    ///
    /// # Panics
    /// On any other thread.
    pub fn get(&self) -> &T {
        self.assert_home();
        &self.value
    }

    /// Returns the value itself, on its home thread.
    ///
    /// # Panics
    /// On any other thread.
    pub fn into_inner(self) -> T {
        self.assert_home();
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used again nor dropped, so the value is moved out once.
        unsafe { ptr::read(&*this.value) }
    }

    fn assert_home(&self) {
        assert!(
            Thread::current() == Some(self.home),
            "a value of SPDK thread {} was accessed on another thread",
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

/// `std::thread_local!`, for values that belong to a reactor's OS thread. It is a macro of this
/// crate so that the simulator, which has many reactors on one OS thread, can replace it.
#[macro_export]
macro_rules! thread_local {
    ($($declarations:tt)*) => { ::std::thread_local! { $($declarations)* } };
}
