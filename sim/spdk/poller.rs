//! Pollers: closures that an SPDK thread calls again and again.

pub use spdk_contract::poller::Turn;

use world::{with, with_in_drop};

use crate::errno::{Errno, Result};

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
        // A closure that is given back is dropped with nothing borrowed.
        let added = with(|w| w.add_periodic(period_us, Box::new(f)));
        added.map(|(thread, id)| Poller { thread, id }).map_err(|_| Errno::ESRCH)
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
        with_in_drop(|w| gone = w.remove_periodic(self.thread, self.id));
        drop(gone);
    }
}
