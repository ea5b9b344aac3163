//! What a connection at the target does with the frames that come in.

use std::rc::Rc;

use dst_session::Violation;
use dst_transport::{Flow, Frames};
use dst_wire::secure::Secure;
use dst_wire::{Header, Hello, Kind, WireError};
use spdk::iov::IovMut;

use crate::completion::Submitter;
use crate::connection::{Body, Connection, Phase};
use crate::queue::{Ended, Queue};
use crate::submission::submit;

/// Bytes of control frames that may wait to be sent; a peer that does not take its keep-alives' answers
/// gets no more of them.
const OUTBOX_MAX: usize = 4096;

/// A connection's frames on their way in.
pub(crate) struct Incoming<'a> {
    pub connection: &'a Rc<Connection>,
    pub body: &'a mut Body,
}

impl Incoming<'_> {
    fn queue(&mut self) -> Option<&mut Queue> {
        let is_request = self.body.frame.is_some_and(|header| header.kind == Kind::Request);
        self.body.queue.as_mut().filter(|_| is_request)
    }
}

impl Frames for Incoming<'_> {
    fn header(&mut self, header: &Header) -> Result<Flow, Violation> {
        let body = &mut *self.body;
        if body.broken.is_some() {
            return Ok(Flow::Stall);
        }
        body.frame = Some(*header);
        match (body.phase, header.kind, &mut body.queue) {
            (Phase::Handshake, Kind::Hello | Kind::Secure, _)
                if body.hello.is_none()
                    && body.secure.is_none()
                    && !(body.is_secured && header.kind == Kind::Secure) =>
            {
                let max = self.connection.group().options.max_handshake_bytes;
                if header.data_len > max {
                    let kind = header.kind as u8;
                    return Err(WireError::DataLen { kind, len: header.data_len, max }.into());
                }
                body.message.clear();
                Ok(Flow::Go)
            }
            (Phase::Ready, Kind::Request, Some(queue)) if !body.goodbye => {
                queue.header(header, &self.connection.group().pools)
            }
            (Phase::Ready, Kind::KeepAlive | Kind::Goodbye, _) => Ok(Flow::Go),
            _ => Err(Violation::Unexpected(header.kind)),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        match self.queue() {
            Some(queue) => queue.data(bytes),
            None => self.body.message.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        self.queue().map_or(0, |queue| queue.place(iov))
    }

    fn placed(&mut self, len: usize) {
        if let Some(queue) = self.queue() {
            queue.placed(len);
        }
    }

    fn end(&mut self) -> Result<(), Violation> {
        let body = &mut *self.body;
        let Some(header) = body.frame else { return Ok(()) };
        match header.kind {
            Kind::Request => {
                let Some(queue) = &mut body.queue else { return Ok(()) };
                let pools = &self.connection.group().pools;
                match queue.end(&body.lease, pools, spdk::clock::now_us) {
                    Ended::Submit(submission) => {
                        let channel = body.channel.as_ref().expect("a queue has a channel");
                        submit(channel, submission, Rc::clone(self.connection) as Rc<dyn Submitter>);
                    }
                    Ended::Answered => {}
                    Ended::LeaseOver(now_us) => body.broken = Some(body.lease_over(now_us)),
                }
            }
            Kind::Hello => body.hello = Some(Hello::decode(&body.message)?),
            Kind::Secure => {
                Secure::decode(&body.message)?;
                body.secure = Some(std::mem::take(&mut body.message));
            }
            // Without room for the answer it has not arrived.
            Kind::KeepAlive if body.outbox.pending().len() < OUTBOX_MAX => {
                // A moment that is past is too early rather than too late.
                body.lease.keep_alive(header.id, header.start, self.connection.group().now_us())?;
                let ack = Header { id: header.id, ..Header::new(Kind::KeepAliveAck) };
                body.outbox.push(ack, &[]);
            }
            Kind::Goodbye => body.goodbye = true,
            _ => {}
        }
        Ok(())
    }
}
