//! The handling of received frames by a connection.

use std::rc::Rc;

use dst_session::Violation;
use dst_session::mutation::{Mutation, is_on};
use dst_transport::{Broken, Flow, Frames, Here, Outbox};
use dst_wire::secure::Secure;
use dst_wire::{Header, Hello, Kind, WireError};
use spdk::iov::IovMut;

use crate::completion::Submitter;
use crate::holds::HoldNotice;
use crate::pools::Pools;
use crate::queue::abort::Abort;
use crate::queue::{Dispatch, Queue};
use crate::receive_buffer::ReceiveBuffer;
use crate::stage::{HandshakeMessage, HandshakeStep, IncomingFrame, Stage};
use crate::submission::submit;

/// The maximum number of bytes of control frames that wait to be sent. The keep-alives of a client
/// that does not receive their acknowledgements are ignored beyond that.
const OUTBOX_MAX: usize = 4096;

/// What remains to be done after the frames of one turn were handled.
pub enum FollowUp {
    /// Nothing.
    Nothing,
    /// The control thread has to decide about this Hello.
    Hello(Box<Hello>),
    /// The control thread has to check the key, given the client's part of the key agreement.
    Secure(Vec<u8>),
    /// The connection has to end: a request came after its lease had run out.
    LeaseOver(Broken),
}

/// Handles the frames of one connection in one turn.
pub struct Inbound<'a, S> {
    pub stage: &'a mut Stage,
    pub outbox: &'a mut Outbox,
    pub pools: &'a Pools,
    /// The maximum length in bytes of the first frame's data.
    pub max_handshake_bytes: u32,
    /// The time of this turn.
    pub now_us: u64,
    /// The receiver of the completions of submitted I/O.
    pub submitter: &'a Rc<S>,
    pub follow_up: FollowUp,
    /// Receives notices about requests that are to be held.
    pub notices: &'a mut Vec<HoldNotice>,
}

impl<S> Inbound<'_, S> {
    /// Returns the queue, if a request is being received.
    fn queue(&mut self) -> Option<&mut Queue> {
        match &mut self.stage {
            Stage::Ready(ready) if ready.frame == IncomingFrame::Request => {
                ready.requests.as_mut().map(|requests| &mut requests.queue)
            }
            _ => None,
        }
    }
}

impl<S: Submitter + 'static> Frames for Inbound<'_, S> {
    type Buffer = ReceiveBuffer;

    fn header(&mut self, header: &Header, here: Option<Here<'_, ReceiveBuffer>>) -> Result<Flow, Violation> {
        match &mut self.stage {
            Stage::Ready(ready) => {
                let (frame, flow) = match (header.kind, &mut ready.requests) {
                    // Frames behind the request that came too late are not handled.
                    _ if matches!(self.follow_up, FollowUp::LeaseOver(_)) => return Ok(Flow::Stall),
                    (Kind::Request, Some(requests)) if !ready.said_goodbye => {
                        (IncomingFrame::Request, requests.queue.header(header, here, self.pools)?)
                    }
                    (Kind::KeepAlive, _) => {
                        (IncomingFrame::KeepAlive { id: header.id, has: header.start }, Flow::Go)
                    }
                    (Kind::Goodbye, _) => (IncomingFrame::Goodbye, Flow::Go),
                    (Kind::Abort, Some(_)) if ready.has_aborts => {
                        (IncomingFrame::Abort { id: header.id }, Flow::Go)
                    }
                    (kind, _) => return Err(Violation::Unexpected(kind)),
                };
                ready.frame = frame;
                Ok(flow)
            }
            Stage::Handshake { step: HandshakeStep::Awaiting { is_secured, message }, .. } => {
                let begun = match header.kind {
                    Kind::Hello => HandshakeMessage::Hello(Vec::new()),
                    Kind::Secure if !*is_secured => HandshakeMessage::Secure(Vec::new()),
                    kind => return Err(Violation::Unexpected(kind)),
                };
                let (len, max) = (header.data_len, self.max_handshake_bytes);
                if len > max {
                    return Err(WireError::DataLen { kind: header.kind as u8, len, max }.into());
                }
                *message = Some(begun);
                Ok(Flow::Go)
            }
            Stage::Handshake { .. } => Err(Violation::Unexpected(header.kind)),
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(queue) = self.queue() {
            queue.data(bytes);
        } else if let Stage::Handshake {
            step: HandshakeStep::Awaiting { message: Some(message), .. }, ..
        } = &mut self.stage
        {
            let (HandshakeMessage::Hello(data) | HandshakeMessage::Secure(data)) = message;
            data.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn place<'a>(&'a mut self, iov: &mut IovMut<'a>) -> usize {
        self.queue().map_or(0, |queue| queue.place(iov))
    }

    fn received_in_place(&mut self, len: usize) {
        if let Some(queue) = self.queue() {
            queue.received_in_place(len);
        }
    }

    fn end(&mut self) -> Result<(), Violation> {
        match &mut self.stage {
            Stage::Ready(ready) => match ready.frame {
                IncomingFrame::Request => {
                    let Some(requests) = &mut ready.requests else { return Ok(()) };
                    match requests.queue.end(&ready.lease, self.pools, spdk::clock::now_us) {
                        Dispatch::Submit(submission) => {
                            let submitter = Rc::clone(self.submitter) as Rc<dyn Submitter>;
                            submit(&requests.channel, submission, submitter);
                        }
                        Dispatch::Nothing => {}
                        Dispatch::LeaseOver(now_us) => {
                            self.follow_up = FollowUp::LeaseOver(ready.lease_over(now_us));
                        }
                    }
                }
                // A keep-alive is ignored if there is no room for its acknowledgement.
                IncomingFrame::KeepAlive { id, has } if self.outbox.pending().len() < OUTBOX_MAX => {
                    // The time at the beginning of this turn is early enough: the lease becomes
                    // shorter rather than longer.
                    ready.lease.keep_alive(id, has, self.now_us)?;
                    self.outbox.push(Header { id, ..Header::new(Kind::KeepAliveAck) }, &[]);
                }
                IncomingFrame::Goodbye => ready.said_goodbye = true,
                IncomingFrame::Abort { id } => {
                    let Some(requests) = &mut ready.requests else { return Ok(()) };
                    match requests.queue.abort(id, self.pools)? {
                        Abort::Answered => {}
                        Abort::Held => self.outbox.push(Header { id, ..Header::new(Kind::Held) }, &[]),
                        Abort::Hold(notice) => {
                            self.notices.push(notice);
                            if is_on(Mutation::HeldTooEarly) {
                                self.outbox.push(Header { id, ..Header::new(Kind::Held) }, &[]);
                            }
                        }
                    }
                }
                IncomingFrame::KeepAlive { .. } | IncomingFrame::Nothing => {}
            },
            Stage::Handshake { step, .. } => {
                let HandshakeStep::Awaiting { message: Some(message), .. } = step else { return Ok(()) };
                self.follow_up = match message {
                    HandshakeMessage::Hello(data) => FollowUp::Hello(Box::new(Hello::decode(data)?)),
                    HandshakeMessage::Secure(data) => {
                        Secure::decode(data)?;
                        FollowUp::Secure(std::mem::take(data))
                    }
                };
                *step = HandshakeStep::Asking;
            }
        }
        Ok(())
    }
}
