//! Users' I/O: taken, handed to the rules, completed.

use std::rc::Rc;

use dst_mirror::{Extent, Input, IoId, Op, Status};
use spdk::bdev::IoStatus;
use spdk::bdev_io::IoKind;
use spdk::clock::now_us;
use spdk::forwarded_io::ForwardedIo;

use crate::arrivals::Arrivals;
use crate::mirror::Mirror;

impl Arrivals for Mirror {
    /// HOT.
    fn arrived(self: Rc<Self>, io: ForwardedIo) {
        match io.kind() {
            IoKind::Read | IoKind::Write if io.num_blocks() == 0 => self.send_back(io, IoStatus::Success),
            IoKind::Read | IoKind::Write | IoKind::Flush => {
                let taken = self.users.borrow_mut().take(io);
                if let Some(io) = taken {
                    self.submit(io);
                }
            }
            IoKind::Reset => self.begin_reset(io),
            // The disk supports nothing else.
            _ => self.send_back(io, IoStatus::Failed),
        }
    }
}

impl Mirror {
    /// Hands an I/O to the rules. HOT.
    fn submit(self: &Rc<Self>, io: IoId) {
        let mut users = self.users.borrow_mut();
        let Some(user) = users.get(io) else { return };
        let op = match user.kind() {
            IoKind::Read => Op::Read,
            IoKind::Write => Op::Write,
            _ => Op::Flush,
        };
        let range = Extent { start: user.offset_blocks(), count: user.num_blocks() };
        drop(users);
        self.tell(Input::Submit { io, op, range });
    }

    /// Completes an I/O. HOT.
    pub(crate) fn complete(self: &Rc<Self>, io: IoId, status: Status) {
        let ended = self.users.borrow_mut().remove(io);
        let Some(ended) = ended else { return };
        let status = match status {
            Status::Success => IoStatus::Success,
            Status::Failed => IoStatus::Failed,
        };
        self.send_back(ended, status);
        let next = self.users.borrow_mut().next();
        match next {
            Some(next) => self.submit(next),
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
