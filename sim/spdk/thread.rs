//! SPDK threads.

use world::process::Message;
use world::with;

use crate::errno::{Errno, Result};

/// A handle to an SPDK thread. It does not keep the thread alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Thread {
    id: u64,
}

impl Thread {
    /// Returns the running SPDK thread, if there is one.
    pub fn current() -> Option<Thread> {
        with(|w| w.current_thread()).map(|id| Thread { id })
    }

    /// Creates a thread that runs only on `core`.
    pub fn create(name: &str, core: u32) -> Result<Thread> {
        with(|w| {
            let process = w.current_process().ok_or(Errno::ESRCH)?;
            if core >= w.cores(process) {
                return Err(Errno::EINVAL);
            }
            Ok(Thread { id: w.add_thread(process, core, name) })
        })
    }

    /// Runs `f` on this thread later. Closures run in the order in which they were sent.
    pub fn send(&self, f: impl FnOnce() + Send + 'static) -> Result<()> {
        post(self.id, Box::new(f))
    }

    /// Ends the thread after the messages that it has so far.
    pub fn exit(self) {
        with(|w| w.exit(self.id));
    }
}

fn post(thread: u64, message: Message) -> Result<()> {
    let back = with(|w| {
        let from = w.current_process();
        let to = w.process_of(thread);
        assert!(from.is_none() || to.is_none() || from == to, "a message to another process");
        w.post(thread, message)
    });
    // The closure is dropped while nothing is borrowed.
    if back.is_some() { Err(Errno::ESRCH) } else { Ok(()) }
}

/// Keeps the SPDK thread on its core: a simulated thread never moves.
pub fn stay() {}

/// Returns all cores of the application.
pub fn cores() -> Vec<u32> {
    with(|w| w.current_process().map_or(Vec::new(), |p| (0..w.cores(p)).collect()))
}
