//! Users' I/O: taken, handed to the rules, completed.
//!
//! Unmapped blocks are zeroed. What a bdev returns for them is not defined otherwise: members would
//! differ, and so would two reads of one block. Zeroes have no data, so one such I/O may be as long as
//! the mirror; the rules get it piece by piece.

use std::rc::Rc;

use dst_mirror::{Extent, IoId, Op, Status};
use spdk::bdev::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::clock::now_us;
use spdk::forwarded_io::ForwardedIo;

use crate::arrivals::Arrivals;
use crate::mirror::Mirror;

/// The maximum length of a piece of zeroes, in bytes: twice SPDK's own buffer of zeroes, of which it
/// makes writes for a bdev that gets them as data. Even a slow one then takes far less time than a
/// member has.
const ZEROES_MAX: u64 = 2 << 20;

impl Arrivals for Mirror {
    /// HOT.
    fn arrived(self: Rc<Self>, mut io: ForwardedIo) {
        let now = now_us();
        io.set_stamp(now);
        match io.kind() {
            IoKind::Read | IoKind::Write | IoKind::WriteZeroes | IoKind::Unmap if io.num_blocks() == 0 => {
                self.send_back(io, IoStatus::Success);
            }
            IoKind::Read | IoKind::Write | IoKind::WriteZeroes | IoKind::Unmap | IoKind::Flush => {
                let taken = self.users.borrow_mut().take(io);
                if let Some(io) = taken {
                    self.submit(io, now);
                }
            }
            IoKind::Reset => self.begin_reset(io),
            // The disk does not support these.
            IoKind::CompareAndWrite | IoKind::Other => self.send_back(io, IoStatus::Failed),
        }
    }
}

impl Mirror {
    /// Hands an I/O to the rules. HOT.
    fn submit(self: &Rc<Self>, io: IoId, now: u64) {
        let mut users = self.users.borrow_mut();
        let Some(user) = users.get(io) else { return };
        let op = match user.kind() {
            IoKind::Read => Op::Read,
            IoKind::Write => Op::Write,
            IoKind::WriteZeroes | IoKind::Unmap => Op::WriteZeroes,
            IoKind::Flush => Op::Flush,
            IoKind::Reset | IoKind::CompareAndWrite | IoKind::Other => unreachable!("it was not taken"),
        };
        let range = Extent { start: user.offset_blocks(), count: user.num_blocks() };
        drop(users);
        if op == Op::WriteZeroes {
            return self.zero(io, range, now);
        }
        self.tell_submitted(now, io, op, range);
    }

    /// Sets the length of the pieces in which blocks are zeroed.
    pub(crate) fn set_zeroes_max(&self, block_size: u32) {
        self.zeroes_max.set((ZEROES_MAX / u64::from(block_size)).max(1));
    }

    /// Hands the first piece of what is to be zeroed to the rules.
    fn zero(self: &Rc<Self>, io: IoId, range: Extent, now: u64) {
        let longest = self.rules.borrow().io_blocks_max(range.start).min(self.zeroes_max.get());
        // Beyond the end, or of a mirror that has ended, the rules fail it.
        let count = if longest == 0 { range.count } else { range.count.min(longest) };
        self.users.borrow_mut().set_left(io, range.count - count);
        self.tell_submitted(now, io, Op::WriteZeroes, Extent { start: range.start, count });
    }

    /// Goes on with blocks that are to be zeroed, as long as nobody waits for the end.
    fn zero_more(self: &Rc<Self>, io: IoId, left: u64) {
        let mut users = self.users.borrow_mut();
        let is_over = users.has_resets() || self.is_deleting();
        users.set_left(io, 0);
        let Some(user) = users.get(io) else { return };
        let end = user.offset_blocks() + user.num_blocks();
        if is_over {
            let ended = users.remove(io);
            drop(users);
            return self.finish(ended, IoStatus::Aborted, now_us());
        }
        drop(users);
        self.zero(io, Extent { start: end - left, count: left }, now_us());
    }

    /// Completes an I/O, because of what the rules were told at `now`. HOT.
    pub(crate) fn complete(self: &Rc<Self>, io: IoId, status: Status, now: u64) {
        let mut users = self.users.borrow_mut();
        let left = users.left(io);
        if left > 0 && status == Status::Success {
            drop(users);
            return self.zero_more(io, left);
        }
        let ended = users.remove(io);
        drop(users);
        let status = match status {
            Status::Success => IoStatus::Success,
            Status::Failed => IoStatus::Failed,
        };
        self.finish(ended, status, now);
    }

    /// Sends an I/O back that has ended, and begins the next one. HOT.
    fn finish(self: &Rc<Self>, ended: Option<ForwardedIo>, status: IoStatus, now: u64) {
        let Some(ended) = ended else { return };
        self.users.borrow_mut().took(&ended, now);
        self.send_back(ended, status);
        let next = self.users.borrow_mut().next();
        match next {
            Some(next) => self.submit(next, now_us()),
            None => self.end_resets(),
        }
    }

    /// Sends an I/O back to its thread. HOT.
    fn send_back(&self, io: ForwardedIo, status: IoStatus) {
        if let Err(io) = io.complete(status) {
            self.users.borrow_mut().keep_unsent(io, status);
        }
    }

    /// Sends back the I/O that waits because SPDK was short of messages.
    pub(crate) fn send_unsent(&self) {
        loop {
            let next = self.users.borrow_mut().pop_unsent();
            let Some((io, status)) = next else { return };
            if let Err(io) = io.complete(status) {
                return self.users.borrow_mut().keep_unsent(io, status);
            }
        }
    }

    /// Begins a reset of the mirror: what has not begun is aborted, and what has begun ends by
    /// itself, or when a member that does not answer is given up, or else by
    /// [`Mirror::hurry_resets`].
    fn begin_reset(&self, io: ForwardedIo) {
        loop {
            let next = self.users.borrow_mut().remove_waiting();
            let Some(waiting) = next else { break };
            self.send_back(waiting, IoStatus::Aborted);
        }
        self.users.borrow_mut().add_reset(io, now_us());
        self.end_resets();
    }

    /// Ends resets, if no other I/O is left. HOT.
    fn end_resets(&self) {
        loop {
            let next = self.users.borrow_mut().ended_reset();
            let Some(reset) = next else { return };
            self.send_back(reset, IoStatus::Success);
        }
    }
}
