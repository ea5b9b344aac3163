//! Answers on their way in: data goes to the user's vectors, completions to the user.

use std::sync::atomic::Ordering;

use dst_session::Violation;
use dst_session::transactions::{Answer, Transactions};
use dst_transport::{Flow, Frames};
use dst_wire::{Header, Kind, Status};
use spdk::backend::IoStatus;
use spdk::bdev_io::BdevIo;
use spdk::iov::IovMut;

use crate::shared::Counters;

/// The answer that is coming in.
#[derive(Debug, Default)]
pub struct Incoming {
    answer: Option<Answer>,
    at: usize,
}

/// Takes a channel's frames.
pub struct Answers<'a> {
    pub transactions: &'a mut Transactions<BdevIo>,
    pub incoming: &'a mut Incoming,
    pub counters: &'a Counters,
}

impl Frames for Answers<'_> {
    fn header(&mut self, header: &Header) -> Result<Flow, Violation> {
        self.incoming.answer = match header.kind {
            Kind::Answer => Some(self.transactions.answer(header)?),
            Kind::KeepAliveAck | Kind::Event | Kind::Goodbye => None,
            other => return Err(Violation::Unexpected(other)),
        };
        self.incoming.at = 0;
        Ok(Flow::Go)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(answer) = self.incoming.answer {
            self.transactions.user_mut(answer.slot).copy_in(self.incoming.at, bytes);
            self.incoming.at += bytes.len();
        }
        Ok(())
    }

    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        let Some(answer) = self.incoming.answer else { return 0 };
        let at = self.incoming.at;
        iov.push_io(self.transactions.user_mut(answer.slot), at, answer.data_len as usize - at)
    }

    fn placed(&mut self, len: usize) {
        self.incoming.at += len;
    }

    fn end(&mut self) -> Result<(), Violation> {
        let Some(answer) = self.incoming.answer.take() else { return Ok(()) };
        let (io, ..) = self.transactions.finish(answer.slot);
        if answer.status != Status::Success {
            Counters::add(&self.counters.errors, 1);
        }
        // The user may submit its next I/O inside this: that only touches the channel's waiting queue.
        io.complete(io_status(answer.status));
        Ok(())
    }
}

fn io_status(status: Status) -> IoStatus {
    match status {
        Status::Success => IoStatus::Success,
        Status::Miscompare => IoStatus::Miscompare,
        Status::Aborted => IoStatus::Aborted,
        Status::Failed | Status::NotSupported | Status::OutOfRange | Status::ReadOnly => IoStatus::Failed,
    }
}

impl Counters {
    /// Whether the channel's connection is up.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}
