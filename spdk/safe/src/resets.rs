//! Serialises the resets of each bdev, because SPDK 20.07's bdev layer crashes when two channels
//! reset one bdev at once.
//!
//! A reset that comes while another one runs has to wait, because the running one may not end the
//! I/O that the new one is meant to end. All resets that have waited share the next one.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::thread::Thread;
use spdk_contract::io::IoStatus;

/// Called on the reset's thread, with `None` to run the reset now, or with the status of the reset
/// that it shared.
type Go = unsafe fn(io: *mut c_void, ended: Option<IoStatus>);

/// A reset that waits.
pub(crate) struct Waiter {
    home: Thread,
    io: *mut c_void,
    go: Go,
}

// SAFETY: `io` is only passed to `go`, on its home.
unsafe impl Send for Waiter {}

impl Waiter {
    /// Creates a reset of the thread `home`, on which `go` is called once with `io`.
    pub(crate) fn new(home: Thread, io: *mut c_void, go: Go) -> Waiter {
        Waiter { home, io, go }
    }

    /// Calls `go` on the reset's thread. Returns false if that is impossible: the thread is gone,
    /// and the I/O with its channel is left to whoever ended the thread with a channel open.
    fn go(self, ended: Option<IoStatus>) -> bool {
        let home = self.home;
        let sent = home.send(move || {
            let waiter = self;
            // SAFETY: on its home, once.
            unsafe { (waiter.go)(waiter.io, ended) }
        });
        if let Err(e) = &sent {
            crate::error!("a reset does not end, since a message to its thread can't be sent: {e}");
        }
        sent.is_ok()
    }
}

/// The resets of one bdev while one of them runs.
struct Running<W> {
    /// The resets that end with the running one.
    sharing: Vec<W>,
    /// The resets that came after the running one began.
    waiting: Vec<W>,
}

/// The resets of all bdevs that are being reset, by the bdev.
struct Resets<W>(HashMap<usize, Running<W>>);

impl<W> Resets<W> {
    /// Begins a reset of the bdev. Returns true if it is to run now; otherwise it waits.
    fn begin(&mut self, bdev: usize, reset: W) -> bool {
        if let Some(running) = self.0.get_mut(&bdev) {
            running.waiting.push(reset);
            return false;
        }
        self.0.insert(bdev, Running { sharing: Vec::new(), waiting: Vec::new() });
        true
    }

    /// Ends the running reset. Returns the resets that shared it.
    fn end(&mut self, bdev: usize) -> Vec<W> {
        self.0.get_mut(&bdev).map(|running| std::mem::take(&mut running.sharing)).unwrap_or_default()
    }

    /// Returns the reset that runs next, which all that wait share; `None`: there is none. To be
    /// called again if the reset can't run.
    fn next(&mut self, bdev: usize) -> Option<W> {
        let running = self.0.get_mut(&bdev)?;
        running.sharing.append(&mut running.waiting);
        let next = running.sharing.pop();
        if next.is_none() {
            self.0.remove(&bdev);
        }
        next
    }
}

static RESETS: LazyLock<Mutex<Resets<Waiter>>> = LazyLock::new(|| Mutex::new(Resets(HashMap::new())));

fn resets() -> MutexGuard<'static, Resets<Waiter>> {
    RESETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a reset of the bdev. Returns true if it is to run now; otherwise its `go` is called
/// later.
pub(crate) fn begin(bdev: usize, waiter: Waiter) -> bool {
    resets().begin(bdev, waiter)
}

/// Ends the running reset and those that shared it, and starts the next one.
pub(crate) fn end(bdev: usize, status: IoStatus) {
    let ended = resets().end(bdev);
    for waiter in ended {
        waiter.go(Some(status));
    }
    loop {
        // The lock is released before the message is sent.
        let next = resets().next(bdev);
        if next.is_none_or(|next| next.go(None)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BDEV: usize = 1;

    fn resets() -> Resets<u32> {
        Resets(HashMap::new())
    }

    #[test]
    fn one_runs_and_those_that_wait_share_the_next() {
        let mut resets = resets();
        assert!(resets.begin(BDEV, 1) && resets.begin(2, 10), "another bdev is another matter");
        assert!(!resets.begin(BDEV, 2) && !resets.begin(BDEV, 3));
        assert!(resets.end(BDEV).is_empty(), "they came after it began");
        assert_eq!(resets.next(BDEV), Some(3));
        assert!(!resets.begin(BDEV, 4));
        assert_eq!((resets.end(BDEV), resets.next(BDEV)), (vec![2], Some(4)));
        assert_eq!((resets.end(BDEV), resets.next(BDEV)), (Vec::new(), None));
        assert!(resets.begin(BDEV, 5), "nothing is left of the others");
    }

    #[test]
    fn a_reset_whose_thread_is_gone_keeps_nobody_waiting() {
        let mut resets = resets();
        for reset in 1..=3 {
            resets.begin(BDEV, reset);
        }
        assert!(resets.end(BDEV).is_empty());
        assert_eq!(resets.next(BDEV), Some(3));
        // It can't be told, so the next one runs; nobody has shared a reset that did not run.
        assert_eq!(resets.next(BDEV), Some(2));
        assert!(resets.end(BDEV).is_empty());
        assert_eq!(resets.next(BDEV), None);
        assert!(resets.begin(BDEV, 4));
    }
}
