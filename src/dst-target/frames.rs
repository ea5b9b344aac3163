//! What a connection does with the frames that come in.

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
use crate::queue::{Ended, Queue};
use crate::receive_buffer::ReceiveBuffer;
use crate::stage::{Frame, Message, Stage, Step};
use crate::submission::submit;

/// Bytes of control frames that may wait to be sent. A client that does not take the
/// acknowledgements of its keep-alives gets no more of them.
const OUTBOX_MAX: usize = 4096;

/// What the frames of one turn have shown that is not done with them.
pub enum Shown {
    /// Nothing.
    Nothing,
    /// A Hello, for the control thread.
    Hello(Box<Hello>),
    /// What the connection is to be secured with, as the client sent it: for the control thread.
    Secure(Vec<u8>),
    /// A request came after the connection's lease had run out.
    LeaseOver(Broken),
}

/// Takes the frames of one connection in one turn.
pub struct Inbound<'a, S> {
    pub stage: &'a mut Stage,
    pub outbox: &'a mut Outbox,
    pub pools: &'a Pools,
    /// Most bytes of the first frame's data.
    pub max_handshake_bytes: u32,
    /// The time of this turn.
    pub now_us: u64,
    /// Gets the completions of what is submitted.
    pub submitter: &'a Rc<S>,
    pub shown: Shown,
    /// What is to be held from now on.
    pub notices: &'a mut Vec<HoldNotice>,
}

impl<S> Inbound<'_, S> {
    /// The queue whose request is coming in, if that is what is.
    fn queue(&mut self) -> Option<&mut Queue> {
        match &mut self.stage {
            Stage::Ready(ready) if ready.frame == Frame::Request => {
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
                    // Nothing that is behind it is looked at.
                    _ if matches!(self.shown, Shown::LeaseOver(_)) => return Ok(Flow::Stall),
                    (Kind::Request, Some(requests)) if !ready.said_goodbye => {
                        (Frame::Request, requests.queue.header(header, here, self.pools)?)
                    }
                    (Kind::KeepAlive, _) => (Frame::KeepAlive { id: header.id, has: header.start }, Flow::Go),
                    (Kind::Goodbye, _) => (Frame::Goodbye, Flow::Go),
                    (Kind::Abort, Some(_)) if ready.has_aborts => (Frame::Abort { id: header.id }, Flow::Go),
                    (kind, _) => return Err(Violation::Unexpected(kind)),
                };
                ready.frame = frame;
                Ok(flow)
            }
            Stage::Handshake { step: Step::Awaiting { is_secured, message }, .. } => {
                let begun = match header.kind {
                    Kind::Hello => Message::Hello(Vec::new()),
                    Kind::Secure if !*is_secured => Message::Secure(Vec::new()),
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
        } else if let Stage::Handshake { step: Step::Awaiting { message: Some(message), .. }, .. } =
            &mut self.stage
        {
            let (Message::Hello(data) | Message::Secure(data)) = message;
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
                Frame::Request => {
                    let Some(requests) = &mut ready.requests else { return Ok(()) };
                    match requests.queue.end(&ready.lease, self.pools, spdk::clock::now_us) {
                        Ended::Submit(submission) => {
                            let submitter = Rc::clone(self.submitter) as Rc<dyn Submitter>;
                            submit(&requests.channel, submission, submitter);
                        }
                        Ended::Answered => {}
                        Ended::LeaseOver(now_us) => {
                            self.shown = Shown::LeaseOver(ready.lease_over(now_us));
                        }
                    }
                }
                // Without room for the acknowledgement the keep-alive has not arrived.
                Frame::KeepAlive { id, has } if self.outbox.pending().len() < OUTBOX_MAX => {
                    // This turn's time: a moment that is past is too early rather than too late.
                    ready.lease.keep_alive(id, has, self.now_us)?;
                    self.outbox.push(Header { id, ..Header::new(Kind::KeepAliveAck) }, &[]);
                }
                Frame::Goodbye => ready.said_goodbye = true,
                Frame::Abort { id } => {
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
                Frame::KeepAlive { .. } | Frame::Nothing => {}
            },
            Stage::Handshake { step, .. } => {
                let Step::Awaiting { message: Some(message), .. } = step else { return Ok(()) };
                self.shown = match message {
                    Message::Hello(data) => Shown::Hello(Box::new(Hello::decode(data)?)),
                    Message::Secure(data) => {
                        Secure::decode(data)?;
                        Shown::Secure(std::mem::take(data))
                    }
                };
                *step = Step::Asking;
            }
        }
        Ok(())
    }
}
