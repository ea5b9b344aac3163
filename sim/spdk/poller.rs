//! Pollers: closures that an SPDK thread calls again and again.

pub use spdk_contract::poller::Turn;

use crate::errno::{Errno, Result};
use crate::process::PollerEntry;
use crate::world::{with, with_in_drop};

/// Nobody rests, so it has nothing to do.
#[derive(Clone, Default)]
pub struct Waker(());

impl Waker {
    /// Does nothing.
    pub fn wake(&self) {}
}

/// A registered poller. Dropping it ends it, also from inside its own closure.
pub struct Poller {
    thread: u64,
    id: u64,
}

impl Poller {
    /// Calls `f` on the current SPDK thread every `period_us` microseconds; 0: on every turn.
    pub fn register(period_us: u64, f: impl FnMut() -> bool + 'static) -> Result<Poller> {
        let mut f: Option<Box<dyn FnMut() -> bool>> = Some(Box::new(f));
        with(|w| {
            let thread = w.current.ok_or(Errno::ESRCH)?;
            let id = w.id();
            let process = w.current_process().ok_or(Errno::ESRCH)?;
            let due = w.processes[&process].clock(w.now) + period_us;
            let found = w.threads.get_mut(&thread).ok_or(Errno::ESRCH)?;
            found.pollers.push(PollerEntry { id, period_us, due, f: f.take() });
            Ok(Poller { thread, id })
        })
    }

    /// As [`Poller::register`].
    pub fn resting(period_us: u64, _rest_us: u64, mut f: impl FnMut() -> Turn + 'static) -> Result<Poller> {
        Self::register(period_us, move || f() == Turn::Worked)
    }

    /// Does nothing.
    pub fn wake(&self) {}

    /// One that does nothing.
    pub fn waker(&self) -> Waker {
        Waker(())
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let mut gone = None;
        with_in_drop(|w| {
            if let Some(thread) = w.threads.get_mut(&self.thread)
                && let Some(at) = thread.pollers.iter().position(|p| p.id == self.id)
            {
                gone = Some(thread.pollers.remove(at));
            }
        });
        drop(gone);
    }
}
