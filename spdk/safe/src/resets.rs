//! Serialises the resets of each bdev, because SPDK 20.07's bdev layer crashes when two channels
//! reset one bdev at once.
//!
//! A reset that comes while another one runs has to wait, because the running one may not end the
//! I/O that the new one is meant to end. All resets that have waited share the next one.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex, PoisonError};

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

    fn go(self, ended: Option<IoStatus>) {
        let home = self.home;
        let sent = home.send(move || {
            let waiter = self;
            // SAFETY: on its home, once.
            unsafe { (waiter.go)(waiter.io, ended) }
        });
        if let Err(e) = sent {
            crate::error!("a reset does not end, since a message to its thread can't be sent: {e}");
        }
    }
}

/// The resets of one bdev while one of them runs.
#[derive(Default)]
struct Running {
    /// The resets that end with the running one.
    sharing: Vec<Waiter>,
    /// The resets that came after the running one began.
    waiting: Vec<Waiter>,
}

static RUNNING: LazyLock<Mutex<HashMap<usize, Running>>> = LazyLock::new(Mutex::default);

/// Begins a reset of the bdev. Returns true if it is to run now; otherwise its `go` is called
/// later.
pub(crate) fn begin(bdev: usize, waiter: Waiter) -> bool {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = running.get_mut(&bdev) {
        running.waiting.push(waiter);
        return false;
    }
    running.insert(bdev, Running::default());
    true
}

/// Ends the running reset and those that shared it, and starts the next one.
pub(crate) fn end(bdev: usize, status: IoStatus) {
    let mut all = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(running) = all.get_mut(&bdev) else { return };
    let ended = std::mem::take(&mut running.sharing);
    let mut waiting = std::mem::take(&mut running.waiting);
    let next = waiting.pop();
    if next.is_some() {
        running.sharing = waiting;
    } else {
        all.remove(&bdev);
    }
    drop(all);
    for waiter in ended {
        waiter.go(Some(status));
    }
    if let Some(next) = next {
        next.go(None);
    }
}
