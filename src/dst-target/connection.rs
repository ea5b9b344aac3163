//! One connection at the target.
//!
//! A connection is open, over, draining and finished, in this order. The socket of one that is over
//! is closed after its group's turn, and executes nothing more. It is finished when the backend has
//! nothing of it any more. Only then is the control thread told, so that the queue's next connection
//! cannot overtake it.

use std::net::SocketAddr;
use std::rc::Rc;

use dst_broker::{Activity, Remains, ResetStep, Stats};
use dst_security::Secured;
use dst_session::Violation;
use dst_session::mutation::{Mutation, is_on};
use dst_transport::{Broken, Outbox, Receiver, Stream};
use dst_wire::{Event, Header, Hello, Kind, Refusal, Status, Welcome};
use spdk::iov::Iov;
use spdk::sock::Sock;

use crate::completion::{Io, Submitter};
use crate::frames::{Inbound, Shown};
use crate::gathering::is_worth_waiting;
use crate::holds::HoldNotice;
use crate::pools::Pools;
use crate::queue::abort::Unparked;
use crate::queue::{Ended, Queue, is_over};
use crate::receive_buffer::ReceiveBuffer;
use crate::stage::{Counted, HandshakeTimer, Ready, Requests, Stage, Step};
use crate::submission::{submit, submit_again};

/// A connection.
pub struct Connection {
    /// Unique in this target.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    life: Life,
    /// What the control thread is to be told of aborted requests.
    notices: Vec<HoldNotice>,
}

/// How a connection is.
enum Life {
    Open(Open),
    /// It is over, but its socket is still open.
    Over(Open, End),
    /// Its socket is closed; the backend still has requests of it.
    Draining(Box<Requests>, End),
    Finished,
}

/// What a connection has as long as its socket is open.
struct Open {
    stream: Stream,
    receiver: Receiver,
    /// The receive buffer, while it has bytes that could not be processed yet.
    held: Option<ReceiveBuffer>,
    /// Control frames to be sent.
    outbox: Outbox,
    /// Whether the stream has bytes that the socket did not take yet.
    has_unsent: bool,
    stage: Stage,
}

/// How a connection ended.
struct End {
    counted: Counted,
    said_goodbye: bool,
}

/// What a turn's receiving has brought, beside what was done with it.
#[derive(Default)]
pub struct Received {
    /// A frame could not be taken for lack of memory: [`Connection::receive`] is to be called again
    /// when there is some.
    pub is_stalled: bool,
    /// Workers have some of what came: [`Connection::receive`] is to be called again soon.
    pub is_with_workers: bool,
    /// What the control thread is to be asked.
    pub question: Option<Question>,
}

/// What the control thread is asked about a connection.
pub enum Question {
    /// Whether this Hello is welcome.
    Hello(Box<Hello>),
    /// Whether the client has the key that it claims to have, by this message.
    Secure(Vec<u8>),
}

/// Whether a connection was expected to end as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was over before.
    Known,
    /// Its client said goodbye, or was refused.
    Expected,
    Unexpected,
}

/// What the completion of a request has come to.
pub enum Completed {
    /// The connection goes on.
    GoesOn,
    /// The same, and there may be notices.
    Special,
    /// The connection is over.
    Over(Broken),
    /// A reset has ended the request: [`Connection::attend_resets`] is to be called.
    ToExecuteAgain,
    /// That was the last thing of a closed connection. This is left of it.
    Finished(Box<Remains>),
}

/// What a connection does for resets.
#[derive(Default)]
pub struct Attended {
    /// The round that need not wait for the connection any longer.
    pub quiesced: Option<u64>,
    /// [`Connection::attend_resets`] is to be called again.
    pub is_attended: bool,
}

/// What became of a connection whose socket was closed.
pub enum Shut {
    /// It was closed before.
    Before,
    /// The backend still has requests of it.
    Draining,
    /// Nothing of it is left but this.
    Finished(Box<Remains>),
}

impl Connection {
    /// Returns an accepted connection, which has `handshake_timeout_ms` to be admitted.
    pub fn new(id: u64, peer: SocketAddr, sock: Sock, handshake_timeout_ms: u32, now_us: u64) -> Connection {
        let timer = HandshakeTimer::new(handshake_timeout_ms, now_us);
        let life = Life::Open(Open {
            stream: Stream::new(sock),
            receiver: Receiver::new(),
            held: None,
            outbox: Outbox::new(),
            has_unsent: false,
            stage: Stage::Handshake { timer, step: Step::FIRST },
        });
        Connection { id, peer, life, notices: Vec::new() }
    }

    /// The connection while it is open.
    fn open(&mut self) -> Option<&mut Open> {
        if let Life::Open(open) = &mut self.life { Some(open) } else { None }
    }

    /// Returns the socket, until it is closed.
    pub fn sock(&self) -> Option<&Sock> {
        match &self.life {
            Life::Open(open) | Life::Over(open, _) => Some(open.stream.sock()),
            Life::Draining(..) | Life::Finished => None,
        }
    }

    /// Returns what the connection did so far, and how many requests the backend has of it; `None`
    /// if it can have counted nothing, as a control connection before its end.
    pub fn activity(&self) -> Option<Box<Activity>> {
        let (requests, end) = match &self.life {
            Life::Open(open) => (open.stage.requests(), None),
            Life::Over(open, end) => (open.stage.requests(), Some(end)),
            Life::Draining(requests, end) => (Some(&**requests), Some(end)),
            Life::Finished => (None, None),
        };
        if requests.is_none() && end.is_none() {
            return None;
        }
        let mut activity = Box::<Activity>::default();
        if let Some(requests) = requests {
            activity.stats = requests.queue.stats;
            activity.in_flight = requests.queue.in_backend();
        }
        if let Some(end) = end {
            end.counted.add_to(&mut activity.stats);
        }
        Some(activity)
    }

    /// Takes what the socket has. The first frame may have `max_handshake_bytes` of data. `submitter`
    /// gets the completions of what is submitted to the backend. HOT.
    ///
    /// # Errors
    /// The connection is over. What came before that with the same read is not acted on, if it is for
    /// the control thread: nobody would be there for what comes of it.
    pub fn receive<S: Submitter + 'static>(
        &mut self,
        pools: &Pools,
        max_handshake_bytes: u32,
        submitter: &Rc<S>,
        now_us: u64,
    ) -> Result<Received, Broken> {
        let Life::Open(open) = &mut self.life else { return Ok(Received::default()) };
        if let Some(requests) = open.stage.requests_mut() {
            requests.queue.traces.look();
        }
        let mut buffer = open.held.take().unwrap_or_else(|| pools.take_receive());
        let mut inbound = Inbound {
            stage: &mut open.stage,
            outbox: &mut open.outbox,
            pools,
            max_handshake_bytes,
            now_us,
            submitter,
            shown: Shown::Nothing,
            notices: &mut self.notices,
        };
        let result = open.receiver.pump(&mut open.stream, &mut buffer, &mut inbound);
        let shown = inbound.shown;
        if open.receiver.holds_bytes() || is_on(Mutation::ReceiveOverWrites) {
            open.held = Some(buffer);
        }
        let question = match shown {
            Shown::Nothing => None,
            Shown::Hello(hello) => Some(Question::Hello(hello)),
            Shown::Secure(message) => Some(Question::Secure(message)),
            Shown::LeaseOver(why) => return Err(result.err().unwrap_or(why)),
        };
        Ok(Received { is_stalled: result?.stalled, is_with_workers: open.stream.is_with_workers(), question })
    }

    /// The backend has finished one of its requests, or a part of one. HOT.
    pub fn completed<S: Submitter + 'static>(
        &mut self,
        io: Io,
        status: Status,
        now_us: u64,
        pools: &Pools,
        submitter: &Rc<S>,
    ) -> Completed {
        match &mut self.life {
            Life::Open(open) | Life::Over(open, _) => {
                let requests = open.stage.requests_mut().expect("only requests of a queue reach the backend");
                let is_removal = status != Status::Success && requests.channel.is_removed();
                if is_removal && !is_on(Mutation::RemovalAnswers) {
                    // Control closes the connection soon, and the client sends the request again when
                    // the bdev is back.
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
            Life::Draining(requests, _) => {
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
            Life::Finished => unreachable!("a connection is finished after its last request"),
        }
    }

    /// The backend has finished a part of a request, whose next part it gets if the connection is open;
    /// or a request that was aborted.
    #[cold]
    fn special_completed<S: Submitter + 'static>(
        &mut self,
        io: Io,
        status: Status,
        pools: &Pools,
        submitter: &Rc<S>,
    ) -> Completed {
        let (open, is_open) = match &mut self.life {
            Life::Open(open) => (open, true),
            Life::Over(open, _) => (open, false),
            Life::Draining(..) | Life::Finished => unreachable!("the caller has looked"),
        };
        let Stage::Ready(ready) = &mut open.stage else { unreachable!("requests come when it is admitted") };
        let requests = ready.requests.as_mut().expect("the caller has looked");
        let (lease, clock) = (is_open.then_some(&ready.lease), spdk::clock::now_us);
        let (ended, released) = requests.queue.special_completed(io, status, pools, lease, clock);
        self.notices.extend(released);
        match ended {
            Ended::Submit(submission) => {
                let submitter = Rc::clone(submitter) as Rc<dyn Submitter>;
                submit(&requests.channel, submission, submitter);
                Completed::Special
            }
            Ended::Answered => Completed::Special,
            Ended::LeaseOver(now_us) => Completed::Over(ready.lease_over(now_us)),
        }
    }

    /// Takes out what the control thread is to be told of aborted requests.
    pub fn take_notices(&mut self) -> Vec<HoldNotice> {
        std::mem::take(&mut self.notices)
    }

    /// All groups hold a request of the connection: its client is told, unless the backend is done.
    pub fn held(&mut self, id: u64) {
        let Some(open) = self.open() else { return };
        let Some(requests) = open.stage.requests() else { return };
        if requests.queue.is_aborted(id) && !is_on(Mutation::HeldTooEarly) {
            open.outbox.push(Header { id, ..Header::new(Kind::Held) }, &[]);
        }
    }

    /// Something is not held any longer: requests that waited for it go to the backend.
    ///
    /// # Errors
    /// The connection is over: its lease has run out.
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

    /// Returns whether it has something to send.
    pub fn wants_to_send(&self) -> bool {
        matches!(&self.life, Life::Open(open) if open.wants_to_send())
    }

    /// Returns whether what has waited for `waited_us` to be sent may wait a little longer, for more
    /// to go with it.
    pub fn gathers(&self, waited_us: u64) -> bool {
        let (Life::Open(open) | Life::Over(open, _)) = &self.life else { return false };
        open.outbox.is_empty()
            && open
                .stage
                .requests()
                .is_some_and(|requests| is_worth_waiting(requests.queue.backlog(), waited_us))
    }

    /// Sends what waits, as much as the socket takes. HOT.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self, pools: &Pools, now_us: u64) -> Result<(), Broken> {
        match &mut self.life {
            Life::Open(open) | Life::Over(open, _) => open.flush(pools, now_us),
            Life::Draining(..) | Life::Finished => Ok(()),
        }
    }

    /// Does what is due at this time. `is_stalled`: it is not read for lack of memory.
    ///
    /// # Errors
    /// The connection is over: its handshake takes too long, its lease has run out, or its client
    /// takes no answers.
    pub fn tick(&mut self, is_stalled: bool, now_us: u64) -> Result<(), Broken> {
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

    /// The client has the key. Behind the answer everything is encrypted.
    pub fn secure(&mut self, answer: &[u8], secured: Secured) {
        if let Some(open) = self.open()
            && let Stage::Handshake { step, .. } = &mut open.stage
        {
            *step = Step::Securing(Box::new(secured));
            open.outbox.push(Header::new(Kind::Secured), answer);
        }
    }

    /// The control thread admits the connection, with a queue unless it is a session's first one.
    pub fn welcome(&mut self, welcome: &Welcome, requests: Option<Box<Requests>>, now_us: u64) {
        // One that is over takes its queue along: the record returns with what is left of it.
        if let Life::Open(open) | Life::Over(open, _) = &mut self.life {
            open.stage = Stage::Ready(Ready::new(welcome, requests, now_us));
            open.outbox.push(Header::new(Kind::Welcome), &welcome.encode());
        }
    }

    /// The control thread does not admit the connection.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if let Some(open) = self.open()
            && let Stage::Handshake { step, .. } = &mut open.stage
        {
            *step = Step::Refused;
            open.outbox.push(Header::new(Kind::Refusal), &refusal.encode());
        }
    }

    /// Something has changed, of which the client is told on the session's first connection.
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

    /// Takes part in a reset that a client asked for.
    pub fn reset_step(&mut self, step: ResetStep, now_us: u64) {
        let (Life::Open(open) | Life::Over(open, _)) = &mut self.life else { return };
        let Some(requests) = open.stage.requests_mut() else { return };
        match step {
            ResetStep::Quiesce(round) => requests.queue.quiesce(round),
            ResetStep::Abandon(round) => requests.queue.abandon(round),
            ResetStep::Begins => requests.queue.own_reset(false, now_us),
            ResetStep::Ends => requests.queue.own_reset(true, now_us),
            ResetStep::Answer { slot, status } => requests.queue.answer_reset(slot, status, now_us),
        }
    }

    /// Returns the slot of the next Reset that the control thread is to be told of.
    #[inline]
    pub fn next_reset(&mut self) -> Option<u16> {
        self.open()?.stage.requests_mut()?.queue.next_asked()
    }

    /// Executes again what other hosts' resets have ended, if it is time, and looks whether a round of
    /// resets still has to wait for something here.
    ///
    /// # Errors
    /// The connection is over: its lease has run out. What is not executed again goes with it: the
    /// client would wait for it on a connection whose lease is renewed a moment later.
    pub fn attend_resets<S: Submitter + 'static>(
        &mut self,
        pools: &Pools,
        submitter: &Rc<S>,
    ) -> Result<Attended, Broken> {
        // One that is over has nothing to do but to finish.
        let Some(Open { stage: Stage::Ready(ready), .. }) = self.open() else {
            return Ok(Attended::default());
        };
        let Some(requests) = &mut ready.requests else { return Ok(Attended::default()) };
        // Right before something goes to the backend, as in `Queue::end`.
        while let Some(io) = requests.queue.next_ended(spdk::clock::now_us()) {
            let now_us = spdk::clock::now_us();
            if is_over(&ready.lease, now_us) {
                let released = requests.queue.withdraw(io, now_us, pools);
                assert!(released.is_none(), "what a reset has ended is not held");
                return Err(ready.lease_over(now_us));
            }
            submit_again(&requests.channel, io, Rc::clone(submitter) as Rc<dyn Submitter>);
        }
        let quiesced = requests.queue.quiesced();
        Ok(Attended { quiesced, is_attended: requests.queue.is_attended() })
    }

    /// The connection is over: it executes nothing more.
    pub fn over(&mut self, why: &Broken) -> Ending {
        match std::mem::replace(&mut self.life, Life::Finished) {
            Life::Open(open) => {
                let end = End { counted: Counted::of(why, &open.stage), ..open.end() };
                let is_refused = matches!(open.stage, Stage::Handshake { step: Step::Refused, .. });
                let is_expected = end.said_goodbye || is_refused;
                self.life = Life::Over(open, end);
                if is_expected { Ending::Expected } else { Ending::Unexpected }
            }
            life => {
                self.life = life;
                Ending::Known
            }
        }
    }

    /// Closes the socket. What is in the backend goes on; nothing more is executed or answered.
    pub fn shut(&mut self, pools: &Pools) -> Shut {
        let (open, end) = match std::mem::replace(&mut self.life, Life::Finished) {
            Life::Open(open) => {
                let end = open.end();
                (open, end)
            }
            Life::Over(open, end) => (open, end),
            life @ (Life::Draining(..) | Life::Finished) => {
                self.life = life;
                return Shut::Before;
            }
        };
        let requests = if let Stage::Ready(ready) = open.stage { ready.requests } else { None };
        let Some(mut requests) = requests else { return Shut::Finished(remains(None, &end)) };
        requests.queue.disconnected(pools);
        if requests.queue.in_backend() == 0 {
            return Shut::Finished(remains(Some(requests), &end));
        }
        self.life = Life::Draining(requests, end);
        Shut::Draining
    }

    /// Returns what is left of a draining connection of which the backend has nothing any more.
    fn finish(&mut self) -> Box<Remains> {
        match std::mem::replace(&mut self.life, Life::Finished) {
            Life::Draining(requests, end) => remains(Some(requests), &end),
            _ => unreachable!("only a draining connection is finished by its last request"),
        }
    }
}

fn remains(requests: Option<Box<Requests>>, end: &End) -> Box<Remains> {
    let queue = requests.map(|requests| requests.queue);
    let mut stats = queue.as_ref().map_or(Stats::default(), |queue| queue.stats);
    end.counted.add_to(&mut stats);
    let slots = queue.map(Queue::into_slots);
    Box::new(Remains { slots, goodbye: end.said_goodbye, stats })
}

impl Open {
    fn wants_to_send(&self) -> bool {
        !self.outbox.is_empty()
            || self.has_unsent
            || self.stage.requests().is_some_and(|requests| requests.queue.wants_to_send())
    }

    /// How it ends if somebody closes it now.
    fn end(&self) -> End {
        let said_goodbye = matches!(&self.stage, Stage::Ready(ready) if ready.said_goodbye);
        End { counted: Counted::Nothing, said_goodbye }
    }

    fn flush(&mut self, pools: &Pools, now_us: u64) -> Result<(), Broken> {
        let Open { stream, outbox, stage, .. } = self;
        loop {
            if let Some(requests) = stage.requests_mut() {
                requests.queue.traces.sending();
            }
            let requests = stage.requests();
            let mut iov = Iov::new();
            let is_mid_frame = requests.is_some_and(|requests| requests.queue.is_mid_frame());
            let control = if is_mid_frame { &[] } else { outbox.pending() };
            let control_len = control.len();
            iov.push(control);
            if let Some(requests) = requests {
                // What is in the outbox may be about a request whose answer follows the first frame.
                let is_first_only = is_mid_frame && !outbox.is_empty();
                requests.queue.outgoing(&mut iov, is_first_only);
            }
            let (wanted, unsent) = (iov.len_bytes(), stream.unsent());
            if wanted == 0 && unsent == 0 {
                break;
            }
            let sent = stream.writev(&iov)?;
            let of_control = sent.min(control_len);
            outbox.sent(of_control);
            if let Stage::Ready(ready) = stage {
                // What is encrypted and waits in the stream was not taken by anybody yet.
                ready.send_progress.sent((unsent + sent).saturating_sub(stream.unsent()), now_us);
                if let Some(requests) = &mut ready.requests {
                    requests.queue.sent(sent - of_control, pools);
                }
            }
            if sent < wanted || wanted == 0 {
                break;
            }
        }
        self.has_unsent = stream.unsent() > 0;
        self.flushed(now_us)
    }

    /// What follows from what was sent.
    fn flushed(&mut self, now_us: u64) -> Result<(), Broken> {
        let wants_to_send = self.wants_to_send();
        match &mut self.stage {
            Stage::Ready(ready) => {
                if !wants_to_send {
                    ready.send_progress.all_sent(now_us);
                }
            }
            Stage::Handshake { step: Step::Refused, .. } if !wants_to_send => return Err(Broken::Closed),
            Stage::Handshake { step: step @ Step::Securing(_), .. } if self.outbox.is_empty() => {
                // Behind its part of the key agreement a client cannot have anything to say in clear.
                if self.receiver.is_mid_stream() {
                    return Err(Violation::Unexpected(Kind::Secure).into());
                }
                if let Step::Securing(secured) = std::mem::replace(step, Step::SECURED) {
                    self.stream.secure(*secured);
                }
            }
            Stage::Handshake { .. } => {}
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "simulator"))]
mod tests;
