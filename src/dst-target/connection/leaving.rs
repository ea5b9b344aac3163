//! The way in which a connection ends when its target stops in order.
//!
//! A *leaving* connection begins no more requests. What the backend has is answered. Then a Goodbye
//! tells the client that nothing else that it has sent on the connection was executed or ever will be,
//! and the client closes the connection. If that can't be said with certainty, because the backend has
//! failed a request, or if it takes too long, the connection ends without a Goodbye, like any that is
//! lost.

use dst_transport::{Broken, Buffer};
use dst_wire::{Flags, Header, Kind, Status};

use super::leave::Leave;
use super::{Completed, Connection, ConnectionPhase, Received};
use crate::completion::Io;
use crate::pools::Pools;

/// The maximum number of reads in one turn that discard what the client sends.
const DISCARDS_A_TURN: usize = 8;

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
            *leave = leave.said_goodbye(now_us);
            open.flush(pools, now_us)?;
        }
        Ok(())
    }
}
