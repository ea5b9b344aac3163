//! Pollers: closures that an SPDK thread calls repeatedly.

pub use spdk_contract::poller::Turn;

use world::{with, with_in_drop};

use crate::errno::{Errno, Result};

/// Wakes a poller that rests. No poller rests here, so a waker does nothing.
#[derive(Clone, Default)]
pub struct Waker(());

impl Waker {
    /// Does nothing.
    pub fn wake(&self) {}
}

/// A registered poller. Dropping it unregisters the poller, even from within its own closure.
pub struct Poller {
    thread: u64,
    id: u64,
}

impl Poller {
    /// Has the current SPDK thread call `f` every `period_us` microseconds; 0: in every turn.
    pub fn register(period_us: u64, f: impl FnMut() -> bool + 'static) -> Result<Poller> {
        // A closure that is returned is dropped while nothing is borrowed.
        let added = with(|w| w.add_periodic(period_us, Box::new(f)));
        added.map(|(thread, id)| Poller { thread, id }).map_err(|_| Errno::ESRCH)
    }

    /// Registers a poller as [`Poller::register`] does; it never rests.
    pub fn resting(period_us: u64, _rest_us: u64, mut f: impl FnMut() -> Turn + 'static) -> Result<Poller> {
        Self::register(period_us, move || f() == Turn::Worked)
    }

    /// Does nothing.
    pub fn wake(&self) {}

    /// Returns a waker that does nothing.
    pub fn waker(&self) -> Waker {
        Waker(())
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let mut gone = None;
        with_in_drop(|w| gone = w.remove_periodic(self.thread, self.id));
        drop(gone);
    }
}
