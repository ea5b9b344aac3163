//! The bdev that SPDK sees.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};
use spdk::bdev_module::{DestructDone, Disk};
use spdk::forwarded_io::Lane;
use spdk::poller::Poller;
use spdk::thread::{Local, Thread};

use crate::arrivals::Arriving;

/// The time between two attempts to forward I/O when SPDK was short of messages, µs.
const RETRY_US: u64 = 1000;

/// Called on the control thread when nobody uses the bdev any more, with the callback for the time
/// at which nothing of it is left.
pub type Destroy = fn(number: usize, done: Box<dyn FnOnce()>);

/// A mirror's bdev.
pub struct MirrorDisk {
    /// The number by which the mirror's I/O arrives.
    pub number: usize,
    /// The name of the mirror.
    pub name: String,
    /// The number of members.
    pub members: Arc<AtomicUsize>,
    /// The control thread, which has the [`crate::Mirror`].
    pub control: Thread,
    /// Ends the mirror.
    pub destroy: Destroy,
    /// Whether users may unmap blocks: what that is, `submission.rs` says.
    pub unmaps: bool,
    /// Whether a saved configuration is to wait for the mirror here: see
    /// [`crate::Mirror::prepare_config`].
    pub is_awaited: Arc<AtomicBool>,
}

/// One thread's I/O, on its way to the control thread.
pub struct Channel {
    number: u64,
    lane: Lane<Arriving>,
    /// I/O for which there was no message, in its order.
    kept: RefCell<BdevIoQueue>,
    retry: RefCell<Option<Poller>>,
    this: Weak<Channel>,
    /// Whether kept I/O is being forwarded.
    is_retrying: Cell<bool>,
}

impl Channel {
    fn submit(&self, mut io: BdevIo) {
        io.set_stamp(self.number);
        if !self.kept.borrow().is_empty() {
            return self.kept.borrow_mut().push_back(io);
        }
        if let Err(io) = self.lane.forward(io) {
            self.keep(io);
        }
    }

    #[cold]
    fn keep(&self, io: BdevIo) {
        let channel = Weak::clone(&self.this);
        let retry = move || channel.upgrade().is_some_and(|channel| channel.forward_kept());
        match Poller::register(RETRY_US, retry) {
            Ok(poller) => {
                self.kept.borrow_mut().push_back(io);
                *self.retry.borrow_mut() = Some(poller);
            }
            Err(errno) => {
                spdk::error!("DST mirror: an I/O fails, without memory for a message or a poller: {errno}");
            }
        }
    }

    /// Forwards what was kept. Returns true if there was anything.
    fn forward_kept(&self) -> bool {
        if self.is_retrying.replace(true) {
            return false;
        }
        loop {
            let Some(io) = self.kept.borrow_mut().pop_front() else { break };
            if let Err(io) = self.lane.forward(io) {
                // At its place again: all others were submitted later.
                let mut kept = self.kept.borrow_mut();
                let mut later = std::mem::take(&mut *kept);
                kept.push_back(io);
                while let Some(io) = later.pop_front() {
                    kept.push_back(io);
                }
                break;
            }
        }
        self.is_retrying.set(false);
        if self.kept.borrow().is_empty() {
            drop(self.retry.take());
        }
        true
    }
}

impl Disk for MirrorDisk {
    type Channel = Channel;

    fn create_channel(&self) -> spdk::Result<Rc<Channel>> {
        Ok(Rc::new_cyclic(|this| Channel {
            number: self.number as u64,
            lane: Lane::new(),
            kept: RefCell::default(),
            retry: RefCell::default(),
            this: Weak::clone(this),
            is_retrying: Cell::new(false),
        }))
    }

    fn destroy_channel(_: Rc<Channel>) {}

    fn submit(channel: &Rc<Channel>, io: BdevIo) {
        channel.submit(io);
    }

    /// SPDK turns a compare-and-write into a read and a write under a lock of its own, so that it is
    /// one step on the mirror.
    fn supports(&self, kind: IoKind) -> bool {
        match kind {
            IoKind::Read | IoKind::Write | IoKind::WriteZeroes | IoKind::Flush | IoKind::Reset => true,
            IoKind::Unmap => self.unmaps,
            IoKind::CompareAndWrite | IoKind::Other => false,
        }
    }

    fn dump_info(&self) -> Value {
        json!({ "mirror": self.name, "members": self.members.load(Ordering::Relaxed) })
    }

    /// Returns the RPC that waits until the mirror is assembled, since the next bdevs may be on top
    /// of it. The mirrors themselves are in the module's configuration, before all bdevs. The RPCs
    /// of the members' bdevs come in between, unless these bdevs are newer than this one.
    fn write_config(&self) -> Vec<Value> {
        let wait = json!({ "method": "bdev_dst_mirror_wait", "params": { "name": self.name } });
        if self.is_awaited.load(Ordering::Relaxed) { vec![wait] } else { Vec::new() }
    }

    fn destruct(&self, done: DestructDone) {
        // This thread need not be the control thread, and the answer must come here.
        let done = Local::new(done);
        let home = done.home();
        let (number, destroy, name) = (self.number, self.destroy, self.name.clone());
        let sent = self.control.send(move || {
            destroy(
                number,
                Box::new(move || {
                    if let Err(errno) = home.send(move || done.into_inner().done()) {
                        spdk::error!("DST mirror {name}: its bdev stays: {errno}");
                    }
                }),
            );
        });
        if let Err(errno) = sent {
            spdk::error!("DST mirror {}: it stays open, as its bdev does: {errno}", self.name);
        }
    }
}
