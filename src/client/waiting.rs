//! I/O that was submitted and is not begun yet.

use std::cell::{Cell, RefCell};

use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};

/// I/O that waits for a credit or a connection, in the order of submission. The stamp of each I/O
/// is the time of its submission, on the clock of deadlines.
///
/// A channel shares this with its [`crate::channel_io::ChannelIo`]: inside a completion the user
/// may submit its next I/O, while the rest of the channel is borrowed. No borrow of a field
/// outlasts a method, and no method completes an I/O.
#[derive(Default)]
pub struct WaitingIo {
    queue: RefCell<BdevIoQueue>,
    /// I/O that was submitted since the channel's last turn and has no stamp yet. The time of that
    /// turn would be too early: the process may have been stopped since then.
    new: RefCell<BdevIoQueue>,
    /// The number of resets among all I/O.
    resets: Cell<usize>,
}

impl WaitingIo {
    /// Adds an I/O that the user submits. An I/O with a stamp is a further part of a long I/O and
    /// goes where its stamp belongs, so that all parts have the same deadline.
    pub fn push(&self, io: BdevIo) {
        if io.kind() == IoKind::Reset {
            self.resets.set(self.resets.get() + 1);
        }
        match io.stamp() {
            0 => self.new.borrow_mut().push_back(io),
            _ => self.queue.borrow_mut().insert(io),
        }
    }

    /// Removes and returns the first I/O. Stamps it with `now_us` if it has no stamp yet.
    #[inline]
    pub fn next(&self, now_us: u64) -> Option<BdevIo> {
        if let Some(io) = self.pop() {
            return Some(io);
        }
        let mut io = self.new.borrow_mut().pop_front()?;
        io.set_stamp(now_us);
        self.count_out(&io);
        Some(io)
    }

    /// Stamps the I/O that was submitted since the last call with `now_us`.
    pub fn stamp_new(&self, now_us: u64) {
        let (mut new, mut queue) = (self.new.borrow_mut(), self.queue.borrow_mut());
        while let Some(mut io) = new.pop_front() {
            io.set_stamp(now_us);
            queue.push_back(io);
        }
    }

    /// Removes and returns the first I/O that has a stamp.
    pub fn pop(&self) -> Option<BdevIo> {
        let io = self.queue.borrow_mut().pop_front()?;
        self.count_out(&io);
        Some(io)
    }

    fn count_out(&self, io: &BdevIo) {
        if io.kind() == IoKind::Reset {
            self.resets.set(self.resets.get() - 1);
        }
    }

    /// Returns the number of waiting I/Os.
    pub fn len(&self) -> usize {
        self.queue.borrow().len() + self.new.borrow().len()
    }

    /// Returns the stamp of the first I/O that has one.
    pub fn oldest_us(&self) -> Option<u64> {
        self.queue.borrow().first_stamp()
    }

    /// Returns true if a reset waits.
    #[inline]
    pub fn has_reset(&self) -> bool {
        self.resets.get() > 0
    }
}
