//! I/O that was submitted and not begun.

use std::cell::{Cell, RefCell};

use spdk::bdev_io::{BdevIo, BdevIoQueue, IoKind};

/// I/O that waits for a credit or a connection, in the order of submission. Each has the time of
/// its submission as its stamp, as deadlines are counted.
///
/// A channel shares this with its [`crate::channel_io::ChannelIo`]: inside a completion the user
/// may submit its next I/O, while the rest of the channel is borrowed. No borrow of a field
/// outlasts a method, and no method completes an I/O.
#[derive(Default)]
pub struct Waiting {
    queue: RefCell<BdevIoQueue>,
    /// Submitted since the channel looked last, without a stamp. The time of that look is no stamp:
    /// the process may have been stopped since.
    new: RefCell<BdevIoQueue>,
    /// How many of all are resets.
    resets: Cell<usize>,
}

impl Waiting {
    /// Adds what a user submits. What has a stamp is a further part of a long I/O: its place is that
    /// of the whole, so that the whole has one deadline.
    pub fn push(&self, io: BdevIo) {
        if io.kind() == IoKind::Reset {
            self.resets.set(self.resets.get() + 1);
        }
        match io.stamp() {
            0 => self.new.borrow_mut().push_back(io),
            _ => self.queue.borrow_mut().insert(io),
        }
    }

    /// Takes the first. Its stamp becomes `now_us` if it has none yet.
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

    /// Puts the stamp `now_us` on what came since the last time.
    pub fn look(&self, now_us: u64) {
        let (mut new, mut queue) = (self.new.borrow_mut(), self.queue.borrow_mut());
        while let Some(mut io) = new.pop_front() {
            io.set_stamp(now_us);
            queue.push_back(io);
        }
    }

    /// Takes the first that has a stamp.
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

    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.queue.borrow().len() + self.new.borrow().len()
    }

    /// Returns the stamp of the first that has one.
    pub fn oldest_us(&self) -> Option<u64> {
        self.queue.borrow().first_stamp()
    }

    /// Returns whether a reset is among them.
    #[inline]
    pub fn has_reset(&self) -> bool {
        self.resets.get() > 0
    }
}
