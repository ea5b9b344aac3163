//! Pollers: closures that an SPDK thread calls again and again.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::rc::{Rc, Weak};

pub use spdk_contract::poller::Turn;
use spdk_sys as sys;

use crate::errno::{Errno, Result};
use crate::{interrupt_mode, thread};

/// A registered poller. Dropping it ends the poller, even from inside its own closure, which is
/// then freed after it returns. It must be dropped before its thread exits.
pub struct Poller {
    raw: *mut sys::spdk_poller,
    /// The poller that ends a rest; null if the application polls.
    rest: *mut sys::spdk_poller,
    state: Rc<PollerState>,
}

/// Wakes a poller that rests. The default value wakes none.
#[derive(Clone, Default)]
pub struct Waker(Weak<PollerState>);

type Closure = dyn FnMut() -> Turn;

pub(crate) struct PollerState {
    /// The closure. It is taken out while it runs, so that dropping the `Poller` from inside cannot
    /// free it.
    f: RefCell<Option<Box<Closure>>>,
    ended: Cell<bool>,
    /// Whether SPDK's thread is in interrupt mode, in which it calls no poller by itself.
    rests: Cell<bool>,
    /// Whether the poller was woken during a turn.
    woken: Cell<bool>,
    /// Whether a message that makes a turn is under way.
    is_due: Cell<bool>,
}

impl Poller {
    /// Calls `f` on the current SPDK thread every `period_us` microseconds; 0 means on every turn
    /// of the reactor. `f` returns whether it found work to do.
    pub fn register(period_us: u64, mut f: impl FnMut() -> bool + 'static) -> Result<Poller> {
        Self::new(Box::new(move || f().into()), period_us)
    }

    /// Does the same as [`Poller::register`], except in interrupt mode: after `f` has returned
    /// [`Turn::Nothing`], it is not called again until something that it watches is readable, it is
    /// woken, or `rest_us` microseconds have passed.
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
        // SAFETY: `arg` is valid until the poller is unregistered: `state` is dropped after that,
        // in `drop`.
        poller.raw = unsafe { sys::spdk_poller_register_named(Some(poll), arg, period_us, name) };
        if poller.raw.is_null() { Err(Errno::ENOMEM) } else { Ok(poller) }
    }

    fn arg(&self) -> *mut c_void {
        Rc::as_ptr(&self.state).cast_mut().cast::<c_void>()
    }

    /// Ends the poller's rest, if it rests. Call it on the poller's thread. HOT.
    #[inline]
    pub fn wake(&self) {
        if self.state.rests.get() {
            self.state.wake();
        }
    }

    /// Returns a waker, to be used on the poller's thread.
    pub fn waker(&self) -> Waker {
        Waker(Rc::downgrade(&self.state))
    }
}

impl Waker {
    /// Does the same as [`Poller::wake`], or nothing if the poller is gone.
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
        // SAFETY: both are registered or null, and not yet unregistered; this is their thread,
        // since `Poller` is not `Send`. SPDK does not call them afterwards.
        unsafe {
            sys::spdk_poller_unregister(&mut self.raw);
            sys::spdk_poller_unregister(&mut self.rest);
        }
        // While the closure runs it is not in `f`, and `run` drops it.
        let f = self.state.f.borrow_mut().take();
        drop(f);
    }
}

impl PollerState {
    /// Returns the state to which a poller's argument points, with its own reference, since the
    /// `Poller` may be dropped meanwhile.
    ///
    /// # Safety
    /// Another reference to the state exists.
    pub(crate) unsafe fn borrowed(arg: *mut c_void) -> Rc<PollerState> {
        let state = arg.cast::<PollerState>().cast_const();
        // SAFETY: the caller guarantees this.
        unsafe {
            Rc::increment_strong_count(state);
            Rc::from_raw(state)
        }
    }

    /// Records that the thread enters or leaves interrupt mode.
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

    /// Makes a turn by a message, which keeps the thread from sleeping.
    fn again(self: &Rc<Self>) {
        extern "C" fn due(state: *mut c_void) {
            // SAFETY: the reference that the message carries.
            let state = unsafe { Rc::from_raw(state.cast::<PollerState>().cast_const()) };
            state.is_due.set(false);
            state.run();
        }

        if self.ended.get() || self.is_due.replace(true) {
            return;
        }
        let count = Rc::into_raw(Rc::clone(self)).cast_mut().cast::<c_void>();
        // SAFETY: a running thread; `due` gets the reference.
        let rc = unsafe { sys::spdk_thread_send_msg(thread::current_ptr(), Some(due), count) };
        if rc != 0 {
            // Too many messages are under way. The poller runs when its rest is over.
            self.is_due.set(false);
            // SAFETY: not sent, so still ours.
            drop(unsafe { Rc::from_raw(count.cast::<PollerState>().cast_const()) });
        }
    }

    /// Makes a turn. HOT.
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
    // SAFETY: SPDK calls registered pollers only, and until `Poller::drop` its `Rc` keeps the state
    // alive.
    unsafe { PollerState::borrowed(arg) }.run()
}

extern "C" fn mode(_: *mut sys::spdk_poller, state: *mut c_void, rests: bool) {
    // SAFETY: the poller is registered, so its state is there.
    unsafe { PollerState::borrowed(state) }.set_rests(rests);
}
