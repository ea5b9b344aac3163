//! One reset at a time of each bdev: SPDK 20.07's bdev layer crashes when two channels reset one bdev at once.
//!
//! A reset that comes while another one runs waits for it: that one may not end what this one is meant to. All that have
//! waited share the next one.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::thread::Thread;
use spdk_contract::io::IoStatus;

/// Told on the reset's thread: `None`, to run it now; or how the one that it shared has ended.
type Go = unsafe fn(io: *mut c_void, ended: Option<IoStatus>);

/// A reset, which its thread left here.
pub(crate) struct Waiter {
    home: Thread,
    io: *mut c_void,
    go: Go,
}

// SAFETY: `io` is only passed to `go`, on its home.
unsafe impl Send for Waiter {}

impl Waiter {
    /// A reset of this thread. `go` is called once with `io`, there.
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
            crate::error!("a reset is not ended, its thread does not answer: {e}");
        }
    }
}

/// The resets of one bdev while one runs.
#[derive(Default)]
struct Running {
    /// Those that end with it.
    sharing: Vec<Waiter>,
    /// Those that came after it began.
    waiting: Vec<Waiter>,
}

static RUNNING: LazyLock<Mutex<HashMap<usize, Running>>> = LazyLock::new(Mutex::default);

/// Begins a reset of the bdev. Returns true if it is to run now; else its `go` is called later.
pub(crate) fn begin(bdev: usize, waiter: Waiter) -> bool {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = running.get_mut(&bdev) {
        running.waiting.push(waiter);
        return false;
    }
    running.insert(bdev, Running::default());
    true
}

/// The reset that ran has ended: those that shared it end too, and the next one runs.
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
