//! The way in which a connection ends when its target stops in order.
//!
//! A *leaving* connection begins no more requests. What the backend has is answered. Then a Goodbye
//! tells the client that nothing else that it has sent on the connection was executed or ever will be,
//! and the client closes the connection. If that can't be said with certainty, because the backend has
//! failed a request, or if it takes too long, the connection ends without a Goodbye, like any that is
//! lost.

use dst_session::mutation::{Mutation, is_on};
use dst_transport::{Broken, Buffer};
use dst_wire::{Flags, Header, Kind, Status};

use super::open::OpenConnection;
use super::{Completed, Connection, ConnectionPhase, Received};
use crate::completion::Io;
use crate::pools::Pools;
use crate::stage::Stage;

/// The maximum time between the Goodbye and the end of the connection, µs. A client that knows what the
/// Goodbye means closes the connection within some ms, and one that does not waits for the target to
/// close it.
const LINGER_US: u64 = 500_000;

/// The maximum number of reads in one turn that discard what the client sends.
const DISCARDS_A_TURN: usize = 8;

/// How far a leaving connection is. It ends at the time `until_us` at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The backend has requests of the connection, or Answers wait to be sent.
    Answering { until_us: u64 },
    /// The Goodbye is sent, or waits to be sent as the last frame.
    SaidGoodbye { until_us: u64 },
}

impl Leave {
    /// Returns true if the Goodbye is due: all requests that were begun are answered.
    pub(super) fn is_goodbye_due(self, open: &OpenConnection) -> bool {
        let is_answered = open.stage.requests().is_none_or(|requests| {
            let is_done = requests.queue.in_backend() == 0 || is_on(Mutation::GoodbyeTooEarly);
            is_done && !requests.queue.wants_to_send()
        });
        matches!(self, Leave::Answering { .. }) && is_answered
    }

    /// Returns true if the client was told, or is about to be.
    pub(super) fn has_said_goodbye(self) -> bool {
        matches!(self, Leave::SaidGoodbye { .. })
    }

    /// Checks the time-out of a leaving connection, and sends a sign of life if one is due.
    ///
    /// # Errors
    /// Fails if the connection's time is up. The connection is then over.
    pub(super) fn tick(self, open: &mut OpenConnection, now_us: u64) -> Result<(), Broken> {
        if now_us >= self.until_us() {
            return Err(Broken::Stopping);
        }
        let is_answering = matches!(self, Leave::Answering { .. });
        if let Stage::Ready(ready) = &mut open.stage
            && is_answering
            && open.outbox.is_empty()
            && ready.must_speak(now_us)
        {
            open.outbox.push(Header::new(Kind::KeepAliveAck), &[]);
        }
        Ok(())
    }

    fn until_us(self) -> u64 {
        let (Leave::Answering { until_us } | Leave::SaidGoodbye { until_us }) = self;
        until_us
    }
}

impl Connection {
    /// Begins to leave; the connection ends at the time `until_us` at the latest. Returns false, and
    /// does nothing, if the connection carries no requests, or if nobody can know what of them was
    /// executed, because the bdev was removed. Such a connection is to be closed.
    pub fn leave(&mut self, pools: &Pools, until_us: u64) -> bool {
        match std::mem::replace(&mut self.phase, ConnectionPhase::Finished) {
            ConnectionPhase::Open(mut open) => {
                let may_leave = open.stage.requests_mut().is_some_and(|requests| {
                    let may_leave = !requests.channel.is_removed();
                    if may_leave {
                        requests.queue.begin_no_more(pools);
                    }
                    may_leave
                });
                if may_leave {
                    open.unprocessed = None;
                    self.phase = ConnectionPhase::Leaving(open, Leave::Answering { until_us });
                } else {
                    self.phase = ConnectionPhase::Open(open);
                }
                may_leave
            }
            phase => {
                self.phase = phase;
                false
            }
        }
    }

    /// Handles the completion of one of a leaving connection's requests.
    #[cold]
    pub(super) fn completed_leaving(
        &mut self,
        io: Io,
        status: Status,
        now_us: u64,
        pools: &Pools,
    ) -> Completed {
        let ConnectionPhase::Leaving(open, _) = &mut self.phase else {
            unreachable!("the caller has looked")
        };
        let requests = open.stage.requests_mut().expect("only a connection with requests leaves");
        if !matches!(status, Status::Success | Status::Miscompare) {
            // A reset of a bdev that did not finish in time may have ended the request, which the next
            // target can execute.
            self.notices.extend(requests.queue.withdraw(io, now_us, pools));
            return Completed::Over(Broken::Stopping);
        }
        if requests.queue.is_special(&io) {
            let clock = spdk::clock::now_us;
            let (_, released) = requests.queue.special_completed(io, status, pools, None, clock);
            self.notices.extend(released);
        } else {
            requests.queue.completed(io, status, now_us, pools);
        }
        Completed::Special
    }

    /// Receives what the client of a leaving connection still sends, and discards it: a socket that is
    /// closed with something unread is reset, and the client may lose the Goodbye then.
    ///
    /// # Errors
    /// Fails if the connection is over, for example because the client has closed it.
    #[cold]
    pub(super) fn discard(&mut self, pools: &Pools) -> Result<Received, Broken> {
        let ConnectionPhase::Leaving(open, _) = &mut self.phase else { return Ok(Received::default()) };
        let mut buffer = pools.take_receive();
        let room = buffer.room();
        open.stream.begin_turn(DISCARDS_A_TURN);
        for _ in 0..DISCARDS_A_TURN {
            match open.stream.recv(room)? {
                None => break,
                Some(0) => return Err(Broken::Closed),
                Some(len) if len < room.len() => break,
                Some(_) => {}
            }
        }
        Ok(Received { is_with_workers: open.stream.is_with_workers(), ..Received::default() })
    }

    /// Sends waiting frames of a leaving connection, and the Goodbye behind the last Answer.
    ///
    /// # Errors
    /// Fails if the connection is over.
    #[cold]
    pub(super) fn flush_leaving(&mut self, pools: &Pools, now_us: u64) -> Result<(), Broken> {
        let ConnectionPhase::Leaving(open, leave) = &mut self.phase else { return Ok(()) };
        open.flush(pools, now_us)?;
        if leave.is_goodbye_due(open) {
            open.outbox.push(Header { flags: Flags::NOT_EXECUTED, ..Header::new(Kind::Goodbye) }, &[]);
            *leave = Leave::SaidGoodbye { until_us: leave.until_us().min(now_us + LINGER_US) };
            open.flush(pools, now_us)?;
        }
        Ok(())
    }
}
