//! Connecting with helper threads, because `spdk_sock_connect` blocks until the peer answers or the
//! kernel gives up after two minutes. The first attempts start the helpers, whose number is bounded
//! and which then stay.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use spdk_sys as sys;

use super::done::Done;
use crate::errno::{Errno, Result};
use crate::sock::{Endpoint, Sock};
use crate::thread::{Local, Thread};

/// The maximum number of simultaneous attempts. More attempts wait in order. Sixty targets that are
/// dead must not keep one that is there waiting, and each may have several addresses.
const HELPERS_MAX: usize = 128;

/// How long a helper waits before it tries again to report to a thread whose message queue is full.
const REPORT_RETRY: Duration = Duration::from_millis(10);

/// An attempt under way. Dropping it cancels the attempt; a socket that comes late is closed.
pub(super) struct HelpedAttempt {
    attempt: Arc<Request>,
    _not_send: PhantomData<*mut ()>,
}

struct Request {
    to: Endpoint,
    home: Thread,
    state: Mutex<RequestState>,
}

struct RequestState {
    /// The callback; `None` once it was called or the attempt was cancelled.
    done: Option<Local<Done>>,
    result: Option<Result<Sock>>,
    /// The helper that is inside `spdk_sock_connect` for this attempt.
    helper: Option<libc::pthread_t>,
}

/// Does the same as [`connect`](super::connect), on a helper thread.
pub(super) fn start(to: Endpoint, done: Done) -> Result<HelpedAttempt> {
    let home = Thread::current().ok_or(Errno::ESRCH)?;
    let state = RequestState { done: Some(Local::new(done)), result: None, helper: None };
    let attempt = Arc::new(Request { to, home, state: Mutex::new(state) });
    HELPERS.start(&attempt)?;
    Ok(HelpedAttempt { attempt, _not_send: PhantomData })
}

impl Drop for HelpedAttempt {
    fn drop(&mut self) {
        let mut state = lock(&self.attempt.state);
        let done = state.done.take();
        let result = state.result.take();
        state.interrupt();
        drop(state);
        // These are dropped outside the lock, since what they own may start another attempt.
        drop(done);
        drop(result);
    }
}

impl RequestState {
    /// Interrupts the helper's `connect(2)`, if it is inside that call.
    fn interrupt(&self) {
        if let Some(helper) = self.helper {
            // SAFETY: helpers never end, so the id is valid. The helper cannot have moved on to
            // another attempt, since it would need the lock that the caller holds.
            unsafe { libc::pthread_kill(helper, INTERRUPT) };
        }
    }
}

impl Request {
    /// Runs the attempt, on a helper.
    fn run(self: &Arc<Self>) {
        {
            let mut state = lock(&self.state);
            if state.done.is_none() {
                return;
            }
            // SAFETY: names the calling thread.
            state.helper = Some(unsafe { libc::pthread_self() });
        }
        let result = self.connect_blocking();
        let mut state = lock(&self.state);
        state.helper = None;
        if state.done.is_some() {
            state.result = Some(result);
        }
        // While the lock is held and `done` is present, the `HelpedAttempt` has not been dropped,
        // so its thread lives.
        while state.done.is_some() {
            let attempt = Arc::clone(self);
            match self.home.send(move || attempt.deliver()) {
                Ok(()) => return,
                Err(Errno::ESRCH) => {
                    state.result = None;
                    return;
                }
                Err(_) => {
                    drop(state);
                    std::thread::sleep(REPORT_RETRY);
                    state = lock(&self.state);
                }
            }
        }
    }

    fn connect_blocking(&self) -> Result<Sock> {
        crate::errno::clear_last();
        let (ip, port) = (self.to.c_ip.as_ptr(), self.to.port.into());
        // SAFETY: two strings (or null for the second), valid during the call, which uses nothing
        // of an SPDK thread.
        let raw = unsafe { sys::spdk_sock_connect(ip, port, self.to.impl_ptr()) };
        Sock::from_raw(raw).ok_or_else(|| crate::errno::last_or(Errno::EIO))
    }

    /// Calls `done` with the result, on the thread that started the attempt.
    fn deliver(&self) {
        let mut state = lock(&self.state);
        let (done, result) = (state.done.take(), state.result.take());
        drop(state);
        if let (Some(done), Some(result)) = (done, result) {
            done.into_inner()(result);
        }
    }
}

static HELPERS: Helpers = Helpers {
    state: Mutex::new(PoolState { queue: VecDeque::new(), running: Vec::new(), helpers: 0, idle: 0 }),
    wake: Condvar::new(),
};

struct Helpers {
    state: Mutex<PoolState>,
    wake: Condvar,
}

struct PoolState {
    queue: VecDeque<Arc<Request>>,
    running: Vec<Arc<Request>>,
    helpers: usize,
    idle: usize,
}

impl Helpers {
    fn start(&'static self, attempt: &Arc<Request>) -> Result<()> {
        let mut state = lock(&self.state);
        // The signal for a cancelled attempt may have come just before its helper entered
        // connect(2), so it is sent again.
        for running in &state.running {
            let running = lock(&running.state);
            if running.done.is_none() {
                running.interrupt();
            }
        }
        // Cancelled attempts must not pile up in the queue behind those that hang.
        state.queue.retain(|queued| lock(&queued.state).done.is_some());
        if state.idle <= state.queue.len() && state.helpers < HELPERS_MAX {
            let spawned =
                std::thread::Builder::new().name("dst_connect".to_owned()).spawn(move || self.help());
            match spawned {
                Ok(_) => state.helpers += 1,
                Err(_) if state.helpers == 0 => return Err(Errno::EAGAIN),
                Err(_) => {}
            }
        }
        state.queue.push_back(Arc::clone(attempt));
        self.wake.notify_one();
        Ok(())
    }

    /// The loop of a helper.
    fn help(&self) {
        catch_interrupt();
        // A helper started on a reactor's core would take that core's time.
        // SAFETY: affects only the calling thread.
        unsafe { sys::spdk_unaffinitize_thread() };
        let mut state = lock(&self.state);
        loop {
            let Some(attempt) = state.queue.pop_front() else {
                state.idle += 1;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.running.push(Arc::clone(&attempt));
            drop(state);
            attempt.run();
            state = lock(&self.state);
            state.running.retain(|running| !Arc::ptr_eq(running, &attempt));
        }
    }
}

/// The signal that interrupts a helper's `connect(2)`. It is ignored by default, so a stray signal
/// does no harm.
const INTERRUPT: libc::c_int = libc::SIGURG;

/// Lets [`INTERRUPT`] interrupt system calls of the calling thread. An existing handler is kept.
fn catch_interrupt() {
    extern "C" fn nothing(_: libc::c_int) {}
    static HANDLER: Once = Once::new();

    HANDLER.call_once(|| {
        // SAFETY: both structures are plain data for which all zero is valid; the handler does
        // nothing at all.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            libc::sigaction(INTERRUPT, std::ptr::null(), &mut old);
            if matches!(old.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
                let mut new: libc::sigaction = std::mem::zeroed();
                new.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
                // Without SA_RESTART, the interrupted call ends.
                libc::sigaction(INTERRUPT, &new, std::ptr::null_mut());
            }
        }
    });
    // SAFETY: changes the calling thread's mask only.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, INTERRUPT);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Locks a mutex. A panic aborts the process, so no lock is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
