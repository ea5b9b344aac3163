//! Pollers: closures that an SPDK thread calls again and again.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::{Rc, Weak};

pub use spdk_contract::poller::Turn;
use spdk_sys as sys;

use crate::errno::{Errno, Result};
use crate::{interrupt_mode, thread};

/// A registered poller. Dropping it ends it, also from inside its own closure, which is then freed after it
/// returned. It must be dropped before its thread exits.
pub struct Poller {
    raw: *mut sys::spdk_poller,
    /// Null where the application polls.
    rest: *mut sys::spdk_poller,
    state: Rc<PollerState>,
}

/// Lets a poller that rests look at once. The default one wakes nobody.
#[derive(Clone, Default)]
pub struct Waker(Weak<PollerState>);

type Closure = dyn FnMut() -> Turn;

pub(crate) struct PollerState {
    /// Taken out while it runs, so that dropping the `Poller` from inside cannot free it.
    f: RefCell<Option<Box<Closure>>>,
    ended: Cell<bool>,
    /// SPDK's thread sleeps when there is nothing to do: it calls nobody by itself.
    rests: Cell<bool>,
    /// Woken during a turn.
    woken: Cell<bool>,
    /// A message is under way that makes a turn.
    is_due: Cell<bool>,
}

impl Poller {
    /// Calls `f` on the current SPDK thread every `period_us` microseconds; 0: on every turn of the reactor.
    /// `f` says whether it found work to do.
    pub fn register(period_us: u64, mut f: impl FnMut() -> bool + 'static) -> Result<Poller> {
        Self::new(Box::new(move || f().into()), period_us)
    }

    /// As [`Poller::register`]; but where the application is in interrupt mode `f` is not called again after
    /// [`Turn::Nothing`] until something that it watches is readable, it is woken, or `rest_us` microseconds
    /// are over.
    pub fn resting(period_us: u64, rest_us: u64, f: impl FnMut() -> Turn + 'static) -> Result<Poller> {
        let mut poller = Self::new(Box::new(f), period_us)?;
        if interrupt_mode::enabled() {
            let arg = poller.arg();
            // SAFETY: as in `new`; and the poller is registered, here.
            unsafe {
                let name = c"dst_rest".as_ptr();
                poller.rest = sys::spdk_poller_register_named(Some(poll), arg, rest_us, name);
                if poller.rest.is_null() {
                    return Err(Errno::ENOMEM);
                }
                interrupt_mode::rest_when_asked(poller.raw, mode, arg);
            }
        }
        Ok(poller)
    }

    fn new(f: Box<Closure>, period_us: u64) -> Result<Poller> {
        if thread::current_ptr().is_null() {
            return Err(Errno::ESRCH);
        }
        let state = Rc::new(PollerState {
            f: RefCell::new(Some(f)),
            ended: Cell::new(false),
            rests: Cell::new(false),
            woken: Cell::new(false),
            is_due: Cell::new(false),
        });
        let mut poller = Poller { raw: ptr::null_mut(), rest: ptr::null_mut(), state };
        let (arg, name) = (poller.arg(), c"dst".as_ptr());
        // SAFETY: `arg` is valid until the poller is unregistered: `state` is dropped after that, in `drop`.
        poller.raw = unsafe { sys::spdk_poller_register_named(Some(poll), arg, period_us, name) };
        if poller.raw.is_null() { Err(Errno::ENOMEM) } else { Ok(poller) }
    }

    fn arg(&self) -> *mut c_void {
        Rc::as_ptr(&self.state).cast_mut().cast::<c_void>()
    }

    /// Ends the rest, if it rests. On its thread. HOT.
    #[inline]
    pub fn wake(&self) {
        if self.state.rests.get() {
            self.state.wake();
        }
    }

    /// For those who have to wake it. On its thread.
    pub fn waker(&self) -> Waker {
        Waker(Rc::downgrade(&self.state))
    }
}

impl Waker {
    /// As [`Poller::wake`]; nothing when the poller is gone.
    pub fn wake(&self) {
        if let Some(state) = self.0.upgrade().filter(|state| state.rests.get()) {
            state.wake();
        }
    }

    #[cfg_attr(not(spdk_sock_interrupts), expect(dead_code, reason = "nothing is watched"))]
    pub(crate) fn state(&self) -> Option<Rc<PollerState>> {
        self.0.upgrade()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.state.ended.set(true);
        self.state.rests.set(false);
        // SAFETY: registered, or null, and not yet unregistered; on its own thread, since it is not `Send`.
        // SPDK calls it no more.
        unsafe {
            sys::spdk_poller_unregister(&mut self.raw);
            sys::spdk_poller_unregister(&mut self.rest);
        }
        // When it is running the closure is not in there, and `run` drops it.
        let f = self.state.f.borrow_mut().take();
        drop(f);
    }
}

impl PollerState {
    /// The state that a poller's argument points to, with a count of its own: the `Poller` may go meanwhile.
    ///
    /// # Safety
    /// Somebody else has a count.
    pub(crate) unsafe fn borrowed(arg: *mut c_void) -> Rc<PollerState> {
        let state = arg.cast::<PollerState>().cast_const();
        // SAFETY: the caller's.
        unsafe {
            Rc::increment_strong_count(state);
            Rc::from_raw(state)
        }
    }

    /// The thread goes to interrupt mode, or comes back.
    fn set_rests(self: &Rc<Self>, rests: bool) {
        self.rests.set(rests);
        if rests {
            self.wake();
        }
    }

    #[cold]
    fn wake(self: &Rc<Self>) {
        if self.f.borrow().is_none() {
            self.woken.set(true);
        } else {
            self.again();
        }
    }

    /// Makes a turn by a message, which the thread does not sleep over.
    fn again(self: &Rc<Self>) {
        extern "C" fn due(state: *mut c_void) {
            // SAFETY: the count that the message carries.
            let state = unsafe { Rc::from_raw(state.cast::<PollerState>().cast_const()) };
            state.is_due.set(false);
            state.run();
        }

        if self.ended.get() || self.is_due.replace(true) {
            return;
        }
        let count = Rc::into_raw(Rc::clone(self)).cast_mut().cast::<c_void>();
        // SAFETY: a running thread; `due` gets the count.
        let rc = unsafe { sys::spdk_thread_send_msg(thread::current_ptr(), Some(due), count) };
        if rc != 0 {
            // Too many messages are under way. Its rest will be over.
            self.is_due.set(false);
            // SAFETY: not sent, so still ours.
            drop(unsafe { Rc::from_raw(count.cast::<PollerState>().cast_const()) });
        }
    }

    /// A turn. HOT.
    pub(crate) fn run(self: &Rc<Self>) -> c_int {
        let Some(mut f) = self.f.borrow_mut().take() else {
            return sys::SPDK_POLLER_IDLE as c_int;
        };
        let turn = f();
        if !self.ended.get() {
            *self.f.borrow_mut() = Some(f);
            if self.rests.get() && (self.woken.take() || turn != Turn::Nothing) {
                self.again();
            }
        }
        (if turn == Turn::Worked { sys::SPDK_POLLER_BUSY } else { sys::SPDK_POLLER_IDLE }) as c_int
    }
}

extern "C" fn poll(arg: *mut c_void) -> c_int {
    // SAFETY: SPDK calls registered pollers only, and until `Poller::drop` its `Rc` keeps the state alive.
    unsafe { PollerState::borrowed(arg) }.run()
}

extern "C" fn mode(_: *mut sys::spdk_poller, state: *mut c_void, rests: bool) {
    // SAFETY: the poller is registered, so its state is there.
    unsafe { PollerState::borrowed(state) }.set_rests(rests);
}
