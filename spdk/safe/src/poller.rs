//! Pollers: closures that an SPDK thread calls again and again.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::rc::Rc;

use spdk_sys as sys;

use crate::errno::{Errno, Result};

/// A registered poller. Dropping it ends it, also from inside its own closure, which is then freed after it
/// returned. It must be dropped before its thread exits.
pub struct Poller {
    raw: *mut sys::spdk_poller,
    state: Rc<State>,
}

struct State {
    /// Taken out while it runs, so that dropping the `Poller` from inside cannot free it.
    f: RefCell<Option<Box<dyn FnMut() -> bool>>>,
    ended: Cell<bool>,
}

impl Poller {
    /// Calls `f` on the current SPDK thread every `period_us` microseconds; 0: on every turn of the reactor.
    /// `f` says whether it found work to do.
    pub fn register(period_us: u64, f: impl FnMut() -> bool + 'static) -> Result<Poller> {
        if crate::thread::current_ptr().is_null() {
            return Err(Errno::ESRCH);
        }
        let state = Rc::new(State { f: RefCell::new(Some(Box::new(f))), ended: Cell::new(false) });
        let arg = Rc::as_ptr(&state).cast_mut().cast::<c_void>();
        // SAFETY: `arg` is valid until the poller is unregistered: `state` is dropped after that, in `drop`.
        let raw = unsafe { sys::spdk_poller_register_named(Some(poll), arg, period_us, c"dst".as_ptr()) };
        if raw.is_null() { Err(Errno::ENOMEM) } else { Ok(Poller { raw, state }) }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.state.ended.set(true);
        // SAFETY: registered and not yet unregistered; on its own thread, since it is not `Send`. SPDK calls
        // it no more.
        unsafe { sys::spdk_poller_unregister(&mut self.raw) };
        // When it is running the closure is not in there, and `poll` drops it.
        let f = self.state.f.borrow_mut().take();
        drop(f);
    }
}

extern "C" fn poll(arg: *mut c_void) -> c_int {
    let state = arg.cast::<State>().cast_const();
    // SAFETY: SPDK calls registered pollers only, and until `Poller::drop` its `Rc` keeps the state alive;
    // the count taken here keeps it during the call, in which the `Poller` may go.
    let state = unsafe {
        Rc::increment_strong_count(state);
        Rc::from_raw(state)
    };
    let Some(mut f) = state.f.borrow_mut().take() else {
        return sys::SPDK_POLLER_IDLE as c_int;
    };
    let busy = f();
    if !state.ended.get() {
        *state.f.borrow_mut() = Some(f);
    }
    (if busy { sys::SPDK_POLLER_BUSY } else { sys::SPDK_POLLER_IDLE }) as c_int
}
