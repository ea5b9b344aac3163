//! One connection at the target.
//!
//! A connection is open, over, draining and finished, in this order; when the target stops, it leaves
//! before it is over (`leaving.rs`). Once it is *over*, none of its requests is begun any more, and its
//! socket is closed after the group's turn. Then the connection
//! is *draining* as long as the backend has requests of it. The control thread is told only when
//! the connection is *finished*, so that the queue's next connection cannot overtake it.

use std::net::SocketAddr;
use std::rc::Rc;

use dst_broker::{ConnectionActivity, Remains};
use dst_security::Secured;
use dst_session::mutation::{Mutation, is_on};
use dst_transport::Broken;
use dst_wire::{Event, Header, Hello, Kind, Refusal, Status, Welcome};
use spdk::sock::Sock;

use self::end::End;
use self::leave::Leave;
use self::open::OpenConnection;
use crate::completion::{Io, Submitter};
use crate::frames::{FollowUp, Inbound};
use crate::gathering::is_worth_waiting;
use crate::holds::HoldNotice;
use crate::pools::Pools;
use crate::queue::Dispatch;
use crate::queue::abort::Unparked;
use crate::stage::{Counted, HandshakeStep, HandshakeTimer, Ready, Requests, Stage};
use crate::submission::submit;

mod end;
mod leave;
mod leaving;
mod open;
pub mod resets;

/// A connection.
pub struct Connection {
    /// The connection's number, unique in this target.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    phase: ConnectionPhase,
    /// Notices about aborted requests for the control thread.
    notices: Vec<HoldNotice>,
}

/// The phase of a connection's life.
enum ConnectionPhase {
    /// The connection is in use.
    Open(OpenConnection),
    /// The connection begins no more requests, because the target stops.
    Leaving(OpenConnection, Leave),
    /// The connection is over, but its socket is still open.
    Over(OpenConnection, End),
    /// The socket is closed, and the backend still has requests of the connection.
    Draining(Box<Requests>, End),
    /// The backend has nothing of the connection any more.
    Finished,
}

/// The outcome of [`Connection::receive`], as far as the caller has to act on it.
#[derive(Default)]
pub struct Received {
    /// Whether a frame could not be taken for lack of memory. [`Connection::receive`] is to be
    /// called again when memory was given back.
    pub is_stalled: bool,
    /// Whether workers have some of the received bytes. [`Connection::receive`] is to be called
    /// again soon.
    pub is_with_workers: bool,
    /// A message that the control thread has to decide about.
    pub question: Option<HandshakeQuestion>,
}

/// A message of the handshake that the control thread has to decide about.
pub enum HandshakeQuestion {
    /// The client asks to be admitted.
    Hello(Box<Hello>),
    /// The client wants to prove a key with this message.
    Secure(Vec<u8>),
}

/// Whether a connection's end was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The connection was over before.
    Known,
    /// The client has sent a Goodbye or was refused, or the target has sent a Goodbye.
    Expected,
    /// The client did not announce the end.
    Unexpected,
}

/// The outcome of a request's completion.
pub enum Completed {
    /// The connection goes on.
    GoesOn,
    /// The connection goes on, and may have notices for the control thread.
    Special,
    /// The connection is over, and may have notices.
    Over(Broken),
    /// A reset has ended the request, which is to be executed again. [`Connection::attend_resets`]
    /// is to be called.
    ToExecuteAgain,
    /// The connection was draining and is finished. This is left of it.
    Finished(Box<Remains>),
}

/// The outcome of closing a connection's socket.
pub enum Shut {
    /// The socket was closed before.
    Before,
    /// The backend still has requests of the connection.
    Draining,
    /// The connection is finished. This is left of it.
    Finished(Box<Remains>),
}

impl Connection {
    /// Returns an accepted connection, which has `handshake_timeout_ms` to be admitted.
    pub fn new(id: u64, peer: SocketAddr, sock: Sock, handshake_timeout_ms: u32, now_us: u64) -> Connection {
        let timer = HandshakeTimer::new(handshake_timeout_ms, now_us);
        let phase = ConnectionPhase::Open(OpenConnection::new(sock, timer));
        Connection { id, peer, phase, notices: Vec::new() }
    }

    /// Returns the connection's state if it is open.
    fn open(&mut self) -> Option<&mut OpenConnection> {
        if let ConnectionPhase::Open(open) = &mut self.phase { Some(open) } else { None }
    }

    /// Returns the socket, or `None` if it is closed.
    pub fn sock(&self) -> Option<&Sock> {
        match &self.phase {
            ConnectionPhase::Open(open)
            | ConnectionPhase::Leaving(open, _)
            | ConnectionPhase::Over(open, _) => Some(open.stream.sock()),
            ConnectionPhase::Draining(..) | ConnectionPhase::Finished => None,
        }
    }

    /// Returns the connection's counts, and the number of its requests that the backend has. Returns
    /// `None` if it can have counted nothing, like a control connection before its end.
    pub fn activity(&self) -> Option<Box<ConnectionActivity>> {
        let (requests, end) = match &self.phase {
            ConnectionPhase::Open(open) | ConnectionPhase::Leaving(open, _) => (open.stage.requests(), None),
            ConnectionPhase::Over(open, end) => (open.stage.requests(), Some(end)),
            ConnectionPhase::Draining(requests, end) => (Some(&**requests), Some(end)),
            ConnectionPhase::Finished => (None, None),
        };
        if requests.is_none() && end.is_none() {
            return None;
        }
        let mut activity = Box::<ConnectionActivity>::default();
        if let Some(requests) = requests {
            activity.stats = requests.queue.stats;
            activity.in_flight = requests.queue.in_backend();
        }
        if let Some(end) = end {
            end.counted.add_to(&mut activity.stats);
        }
        Some(activity)
    }

    /// Receives and handles what the socket has. The first frame may have `max_handshake_bytes`
    /// bytes of data. `submitter` gets the completions of I/O that is submitted to the backend.
    /// HOT.
    ///
    /// # Errors
    /// Fails if the connection is over. A message for the control thread that came with the same
    /// read is dropped, since the connection could not receive the reply.
    pub fn receive<S: Submitter + 'static>(
        &mut self,
        pools: &Pools,
        max_handshake_bytes: u32,
        submitter: &Rc<S>,
        now_us: u64,
    ) -> Result<Received, Broken> {
        let ConnectionPhase::Open(open) = &mut self.phase else { return self.discard(pools) };
        if let Some(requests) = open.stage.requests_mut() {
            requests.queue.traces.look();
        }
        let mut buffer = open.unprocessed.take().unwrap_or_else(|| pools.take_receive());
        let mut inbound = Inbound {
            stage: &mut open.stage,
            outbox: &mut open.outbox,
            pools,
            max_handshake_bytes,
            now_us,
            submitter,
            follow_up: FollowUp::Nothing,
            notices: &mut self.notices,
        };
        let result = open.receiver.pump(&mut open.stream, &mut buffer, &mut inbound);
        let follow_up = inbound.follow_up;
        if open.receiver.holds_bytes() || is_on(Mutation::ReceiveOverWrites) {
            open.unprocessed = Some(buffer);
        }
        let question = match follow_up {
            FollowUp::Nothing => None,
            FollowUp::Hello(hello) => Some(HandshakeQuestion::Hello(hello)),
            FollowUp::Secure(message) => Some(HandshakeQuestion::Secure(message)),
            FollowUp::LeaseOver(why) => return Err(result.err().unwrap_or(why)),
        };
        Ok(Received { is_stalled: result?.stalled, is_with_workers: open.stream.is_with_workers(), question })
    }

    /// Handles the completion of one of the connection's requests, or of a part of one. HOT.
    pub fn completed<S: Submitter + 'static>(
        &mut self,
        io: Io,
        status: Status,
        now_us: u64,
        pools: &Pools,
        submitter: &Rc<S>,
    ) -> Completed {
        match &mut self.phase {
            ConnectionPhase::Open(open) | ConnectionPhase::Over(open, _) => {
                let requests = open.stage.requests_mut().expect("only requests of a queue reach the backend");
                let is_removal = status != Status::Success && requests.channel.is_removed();
                if is_removal && !is_on(Mutation::RemovalAnswers) {
                    // The control thread closes the connection soon, and the client sends the
                    // request again when the bdev is back.
                    self.notices.extend(requests.queue.withdraw(io, now_us, pools));
                    return Completed::Special;
                }
                if status != Status::Success && requests.queue.is_executed_again(&io, status) {
                    requests.queue.keep_ended(io, now_us);
                    return Completed::ToExecuteAgain;
                }
                if requests.queue.is_special(&io) {
                    return self.special_completed(io, status, pools, submitter);
                }
                requests.queue.completed(io, status, now_us, pools);
                Completed::GoesOn
            }
            ConnectionPhase::Leaving(..) => self.completed_leaving(io, status, now_us, pools),
            ConnectionPhase::Draining(requests, _) => {
                if status != Status::Success && requests.queue.is_executed_again(&io, status) {
                    self.notices.extend(requests.queue.withdraw(io, now_us, pools));
                } else if requests.queue.is_special(&io) {
                    let clock = spdk::clock::now_us;
                    let (_, released) = requests.queue.special_completed(io, status, pools, None, clock);
                    self.notices.extend(released);
                } else {
                    requests.queue.completed(io, status, now_us, pools);
                }
                requests.queue.drop_answers(pools);
                if requests.queue.in_backend() == 0 {
                    return Completed::Finished(self.finish());
                }
                Completed::Special
            }
            ConnectionPhase::Finished => unreachable!("a connection is finished after its last request"),
        }
    }

    /// Handles the completion of a part of a request, whose next part is submitted if the
    /// connection is open, or of an aborted request.
    #[cold]
    fn special_completed<S: Submitter + 'static>(
        &mut self,
        io: Io,
        status: Status,
        pools: &Pools,
        submitter: &Rc<S>,
    ) -> Completed {
        let (open, is_open) = match &mut self.phase {
            ConnectionPhase::Open(open) => (open, true),
            ConnectionPhase::Over(open, _) => (open, false),
            ConnectionPhase::Leaving(..) | ConnectionPhase::Draining(..) | ConnectionPhase::Finished => {
                unreachable!("the caller has looked")
            }
        };
        let Stage::Ready(ready) = &mut open.stage else { unreachable!("requests come when it is admitted") };
        let requests = ready.requests.as_mut().expect("the caller has looked");
        let (lease, clock) = (is_open.then_some(&ready.lease), spdk::clock::now_us);
        let (ended, released) = requests.queue.special_completed(io, status, pools, lease, clock);
        self.notices.extend(released);
        match ended {
            Dispatch::Submit(submission) => {
                let submitter = Rc::clone(submitter) as Rc<dyn Submitter>;
                submit(&requests.channel, submission, submitter);
                Completed::Special
            }
            Dispatch::Nothing => Completed::Special,
            Dispatch::LeaseOver(now_us) => Completed::Over(ready.lease_over(now_us)),
        }
    }

    /// Removes and returns the notices about aborted requests for the control thread.
    pub fn take_notices(&mut self) -> Vec<HoldNotice> {
        std::mem::take(&mut self.notices)
    }

    /// Tells the client that all groups hold its aborted request `id`, unless the backend has
    /// finished the request.
    pub fn held(&mut self, id: u64) {
        let Some(open) = self.open() else { return };
        let Some(requests) = open.stage.requests() else { return };
        if requests.queue.is_aborted(id) && !is_on(Mutation::HeldTooEarly) {
            open.outbox.push(Header { id, ..Header::new(Kind::Held) }, &[]);
        }
    }

    /// Submits parked requests that need not wait any longer, because a hold has ended.
    ///
    /// # Errors
    /// Fails if the connection's lease has run out. The connection is then over.
    pub fn unpark<S: Submitter + 'static>(&mut self, submitter: &Rc<S>) -> Result<(), Broken> {
        let Some(open) = self.open() else { return Ok(()) };
        let Stage::Ready(ready) = &mut open.stage else { return Ok(()) };
        let Some(requests) = &mut ready.requests else { return Ok(()) };
        loop {
            match requests.queue.unpark(&ready.lease, spdk::clock::now_us) {
                Unparked::Nothing => return Ok(()),
                Unparked::Submit(submission) => {
                    submit(&requests.channel, submission, Rc::clone(submitter) as Rc<dyn Submitter>);
                }
                Unparked::LeaseOver(now_us) => return Err(ready.lease_over(now_us)),
            }
        }
    }

    /// Returns true if the connection has something to send.
    pub fn wants_to_send(&self) -> bool {
        match &self.phase {
            ConnectionPhase::Open(open) => open.wants_to_send(),
            ConnectionPhase::Leaving(open, leave) => open.wants_to_send() || leave.is_goodbye_due(open),
            _ => false,
        }
    }

    /// Returns true if Answers that have waited for `waited_us` should wait a little longer, to be
    /// sent together with more of them.
    pub fn gathers(&self, waited_us: u64) -> bool {
        let (ConnectionPhase::Open(open) | ConnectionPhase::Over(open, _)) = &self.phase else {
            return false;
        };
        open.outbox.is_empty()
            && open
                .stage
                .requests()
                .is_some_and(|requests| is_worth_waiting(requests.queue.backlog(), waited_us))
    }

    /// Sends waiting frames, as many bytes as the socket takes. HOT.
    ///
    /// # Errors
    /// Fails if the connection is over.
    pub fn flush(&mut self, pools: &Pools, now_us: u64) -> Result<(), Broken> {
        match &mut self.phase {
            ConnectionPhase::Open(open) | ConnectionPhase::Over(open, _) => open.flush(pools, now_us),
            ConnectionPhase::Leaving(..) => self.flush_leaving(pools, now_us),
            ConnectionPhase::Draining(..) | ConnectionPhase::Finished => Ok(()),
        }
    }

    /// Checks the connection's time-outs, and sends a sign of life if one is due. `is_stalled` says
    /// that the connection is not read for lack of memory.
    ///
    /// # Errors
    /// Fails if the connection is over: the handshake takes too long, the lease has run out, or the
    /// client does not receive its Answers.
    pub fn tick(&mut self, is_stalled: bool, now_us: u64) -> Result<(), Broken> {
        if let ConnectionPhase::Leaving(open, leave) = &mut self.phase {
            return leave.tick(open, now_us);
        }
        let Some(open) = self.open() else { return Ok(()) };
        let wants_to_send = open.wants_to_send();
        let over = match &mut open.stage {
            Stage::Handshake { timer, .. } => timer.over(now_us),
            Stage::Ready(ready) => {
                let over = ready.over(wants_to_send, now_us);
                if over.is_none() && is_stalled && open.outbox.is_empty() && ready.must_speak(now_us) {
                    open.outbox.push(Header::new(Kind::KeepAliveAck), &[]);
                }
                over
            }
        };
        over.map_or(Ok(()), Err)
    }

    /// Sends the target's part of the key agreement, since the client has proved its key.
    /// Everything behind it is encrypted.
    pub fn secure(&mut self, answer: &[u8], secured: Secured) {
        if let Some(open) = self.open()
            && let Stage::Handshake { step, .. } = &mut open.stage
        {
            *step = HandshakeStep::Securing(Box::new(secured));
            open.outbox.push(Header::new(Kind::Secured), answer);
        }
    }

    /// Admits the connection. `requests` has the queue, unless this is a control connection.
    pub fn welcome(&mut self, welcome: &Welcome, requests: Option<Box<Requests>>, now_us: u64) {
        // A connection that is over gets the queue, too: the record returns with its remains.
        if let ConnectionPhase::Open(open) | ConnectionPhase::Over(open, _) = &mut self.phase {
            open.stage = Stage::Ready(Ready::new(welcome, requests, now_us));
            open.outbox.push(Header::new(Kind::Welcome), &welcome.encode());
        }
    }

    /// Refuses the connection.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if let Some(open) = self.open()
            && let Stage::Handshake { step, .. } = &mut open.stage
        {
            *step = HandshakeStep::Refused;
            open.outbox.push(Header::new(Kind::Refusal), &refusal.encode());
        }
    }

    /// Handles an event: a control connection passes it on to the client; a queue notes the
    /// device's new size.
    pub fn event(&mut self, event: Event) {
        let Some(open) = self.open() else { return };
        let Stage::Ready(ready) = &mut open.stage else { return };
        match (&mut ready.requests, event) {
            (Some(requests), Event::Resized(num_blocks)) => requests.queue.resized(num_blocks),
            (Some(_), _) => {}
            (None, event) => {
                open.outbox.push(Header { code: event.code(), ..Header::new(Kind::Event) }, &event.encode());
            }
        }
    }

    /// Ends the connection, which begins no more requests. Returns whether the end was expected.
    pub fn over(&mut self, why: &Broken) -> Ending {
        match std::mem::replace(&mut self.phase, ConnectionPhase::Finished) {
            ConnectionPhase::Open(open) => {
                let end = End { counted: Counted::of(why, &open.stage), ..open.end() };
                let is_refused = matches!(open.stage, Stage::Handshake { step: HandshakeStep::Refused, .. });
                let is_expected = end.said_goodbye || is_refused;
                self.phase = ConnectionPhase::Over(open, end);
                if is_expected { Ending::Expected } else { Ending::Unexpected }
            }
            ConnectionPhase::Leaving(open, leave) => {
                let end = open.end();
                self.phase = ConnectionPhase::Over(open, end);
                if leave.has_said_goodbye() { Ending::Expected } else { Ending::Unexpected }
            }
            phase => {
                self.phase = phase;
                Ending::Known
            }
        }
    }

    /// Closes the socket. I/O in the backend goes on; nothing more is begun or answered.
    pub fn shut(&mut self, pools: &Pools) -> Shut {
        let (open, end) = match std::mem::replace(&mut self.phase, ConnectionPhase::Finished) {
            ConnectionPhase::Open(open) | ConnectionPhase::Leaving(open, _) => {
                let end = open.end();
                (open, end)
            }
            ConnectionPhase::Over(open, end) => (open, end),
            phase @ (ConnectionPhase::Draining(..) | ConnectionPhase::Finished) => {
                self.phase = phase;
                return Shut::Before;
            }
        };
        let requests = if let Stage::Ready(ready) = open.stage { ready.requests } else { None };
        let Some(mut requests) = requests else { return Shut::Finished(end.remains(None)) };
        requests.queue.disconnected(pools);
        if requests.queue.in_backend() == 0 {
            return Shut::Finished(end.remains(Some(requests)));
        }
        self.phase = ConnectionPhase::Draining(requests, end);
        Shut::Draining
    }

    /// Ends a draining connection of which the backend has nothing any more. Returns its remains.
    fn finish(&mut self) -> Box<Remains> {
        match std::mem::replace(&mut self.phase, ConnectionPhase::Finished) {
            ConnectionPhase::Draining(requests, end) => end.remains(Some(requests)),
            _ => unreachable!("only a draining connection is finished by its last request"),
        }
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
