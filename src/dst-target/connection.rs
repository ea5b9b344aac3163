//! One connection at the target, on its group's thread.
//!
//! Its life: (securing →) handshake → (control decides) → ready → shut → finished. Shut closes the socket at once and
//! executes nothing more; finished is when the backend has nothing of it any more, and only then is
//! control told, so that a queue's next connection can't overtake it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use dst_security::Secured;
use dst_session::Violation;
use dst_session::lease::Granted;
use dst_session::slots::Slots;
use dst_transport::{Broken, Outbox, Receiver, Stream};
use dst_wire::{Event, Header, Hello, Kind, Refusal, Status, Welcome, WireError};
use spdk::backend::Channel;
use spdk::iov::Iov;
use spdk::sock::Sock;
use spdk::sock::{Member, SockReady, Traffic};

use crate::completion::{Io, Submitter};
use crate::frames::Incoming;
use crate::gathering::is_worth_waiting;
use crate::group::Group;
use crate::queue::{Queue, is_over};
use crate::report::Activity;
use crate::stats::Stats;
use crate::taking::Taking;

/// A client that takes next to nothing of what waits for it is closed after its keep-alive time, or after this if that is
/// longer than this, ms: it holds memory that others want.
const NOT_TAKING_MS: u32 = 30_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a hello.
    Handshake,
    /// Control has the hello, or what it is to be secured with.
    Asking,
    /// The last message in clear is on its way.
    Securing,
    /// Carrying requests (or, for a session's first connection, keep-alives).
    Ready,
    /// Refused: ends as soon as the refusal is sent.
    Refused,
    /// The socket is closed.
    Shut,
}

/// A connection.
pub struct Connection {
    /// Unique in this target.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    group: Rc<Group>,
    dirty: Cell<bool>,
    /// Since when it has something to send.
    dirty_since_us: Cell<u64>,
    stalled: Cell<bool>,
    away: Cell<bool>,
    state: RefCell<State>,
}

struct State {
    /// Declared so that the membership ends before the socket.
    link: Option<(Member, Stream)>,
    receiver: Receiver,
    /// The receive buffer, while it has bytes that could not be gone on with.
    held: Option<Box<[u8]>>,
    body: Body,
}

/// What the frames of a connection change.
pub(crate) struct Body {
    pub phase: Phase,
    pub frame: Option<Header>,
    pub message: Vec<u8>,
    /// What it is to be secured with, as the client sent it.
    pub secure: Option<Vec<u8>>,
    /// Its keys, until the last message in clear is sent.
    pub secured: Option<Secured>,
    pub is_secured: bool,
    pub hello: Option<Hello>,
    pub queue: Option<Queue>,
    pub channel: Option<Channel>,
    pub outbox: Outbox,
    /// Whether the stream has bytes that the socket did not take yet.
    pub has_unsent: bool,
    /// Until the welcome: the time that the handshake may take.
    pub lease: Granted,
    /// What the lease is granted for each time, ms.
    pub lease_ms: u32,
    /// Why it is over, and how far it had come.
    pub ended: Option<(Broken, Phase)>,
    /// When it last showed a sign of life that was not asked for.
    pub spoke_us: u64,
    pub taking: Taking,
    pub goodbye: bool,
    /// What a frame has shown, for whoever comes out of the receiver.
    pub broken: Option<Broken>,
    pub doomed: bool,
}

impl Body {
    /// Nothing of it is executed any more, and why.
    pub fn lease_over(&self, now_us: u64) -> Broken {
        let since_us = now_us.saturating_sub(self.lease.until_us()) + u64::from(self.lease_ms) * 1000;
        if self.phase == Phase::Ready {
            Broken::LeaseOver(since_us / 1000)
        } else {
            Broken::HandshakeTime(since_us / 1000)
        }
    }

    fn stats(&self) -> Stats {
        let mut stats = self.queue.as_ref().map_or(Stats::default(), |queue| queue.stats);
        let Some((why, phase)) = self.ended else { return stats };
        match why {
            Broken::LeaseOver(_) => stats.lease_expiries = 1,
            Broken::HandshakeTime(_) => stats.handshake_timeouts = 1,
            Broken::Violation(Violation::Wire(WireError::DataLen { kind, .. }))
                if phase == Phase::Handshake && [Kind::Hello as u8, Kind::Secure as u8].contains(&kind) =>
            {
                stats.handshake_bytes_exceeded = 1;
            }
            Broken::Violation(_) if phase == Phase::Ready => stats.violations = 1,
            _ => {}
        }
        stats
    }

    fn wants_to_send(&self) -> bool {
        !self.outbox.is_empty() || self.has_unsent || self.queue.as_ref().is_some_and(Queue::wants_to_send)
    }
}

/// What is left of a connection.
pub struct Remains {
    /// The record of its queue, if it had one.
    pub slots: Option<Slots>,
    /// Whether the client ended it on purpose.
    pub goodbye: bool,
    /// What it did.
    pub stats: Stats,
}

impl Connection {
    pub fn new(id: u64, peer: SocketAddr, group: Rc<Group>, now_us: u64) -> Connection {
        let timeout_ms = group.options.handshake_timeout_ms;
        Connection {
            id,
            peer,
            group,
            dirty: Cell::new(false),
            dirty_since_us: Cell::new(0),
            stalled: Cell::new(false),
            away: Cell::new(false),
            state: RefCell::new(State {
                link: None,
                receiver: Receiver::new(),
                held: None,
                body: Body {
                    phase: Phase::Handshake,
                    frame: None,
                    message: Vec::new(),
                    secure: None,
                    secured: None,
                    is_secured: false,
                    hello: None,
                    queue: None,
                    channel: None,
                    outbox: Outbox::new(),
                    has_unsent: false,
                    lease: Granted::new(timeout_ms, now_us),
                    lease_ms: timeout_ms,
                    ended: None,
                    spoke_us: now_us,
                    taking: Taking::new(timeout_ms, now_us),
                    goodbye: false,
                    broken: None,
                    doomed: false,
                },
            }),
        }
    }

    pub fn group(&self) -> &Rc<Group> {
        &self.group
    }

    pub fn set_link(&self, member: Member, sock: Sock) {
        self.state.borrow_mut().link = Some((member, Stream::new(sock)));
    }

    /// What it did so far, and does.
    pub fn activity(&self) -> Activity {
        let body = &self.state.borrow().body;
        Activity { stats: body.stats(), in_flight: body.queue.as_ref().map_or(0, Queue::in_backend) }
    }

    /// Takes what the socket has.
    pub fn receive(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        let State { link: Some((_, stream)), receiver, held, body } = &mut *state else { return };
        if body.doomed {
            return;
        }
        let pools = &self.group.pools;
        let mut buffer = held.take().unwrap_or_else(|| pools.take_receive());
        let result = receiver.pump(stream, &mut buffer, &mut Incoming { connection: self, body });
        if stream.is_away() && !self.away.replace(true) {
            self.group.away.borrow_mut().push_back(Rc::clone(self));
        }
        if receiver.holds_bytes() {
            *held = Some(buffer);
        } else {
            pools.put_receive(buffer);
        }
        match (result, body.broken.take()) {
            (Err(broken), _) | (_, Some(broken)) => self.doom(body, broken),
            (Ok(pumped), None) => {
                if pumped.stalled && !self.stalled.replace(true) {
                    self.group.stalled.borrow_mut().push_back(Rc::clone(self));
                }
            }
        }
        if body.doomed {
            // What came before that with the same read is not acted on: nobody would be there for what comes of it.
            return;
        }
        if let Some(hello) = body.hello.take() {
            body.phase = Phase::Asking;
            self.group.ask_control(self.id, hello, self.peer);
        }
        if let Some(message) = body.secure.take() {
            body.phase = Phase::Asking;
            self.group.ask_to_secure(self.id, message, self.peer);
        }
        self.mark_dirty(body);
    }

    /// There may be room again for a frame that could not be taken.
    pub fn resume(self: &Rc<Self>) {
        self.stalled.set(false);
        self.receive();
    }

    /// Workers may have finished with what came.
    pub fn back(self: &Rc<Self>) {
        self.away.set(false);
        self.receive();
    }

    /// Whether what waits to be sent may wait a little longer, for more to go with it.
    pub fn gathers(&self, now_us: u64) -> bool {
        let state = self.state.borrow();
        let waited_us = now_us.saturating_sub(self.dirty_since_us.get());
        let is_worth_waiting = |queue: &Queue| is_worth_waiting(queue.backlog(), waited_us);
        state.body.outbox.is_empty() && state.body.queue.as_ref().is_some_and(is_worth_waiting)
    }

    /// Sends what waits, as much as the socket takes.
    pub fn flush(self: &Rc<Self>) {
        self.dirty.set(false);
        let mut state = self.state.borrow_mut();
        let State { link: Some((_, stream)), receiver, body, .. } = &mut *state else { return };
        loop {
            let mut iov = Iov::new();
            let mid_frame = body.queue.as_ref().is_some_and(Queue::is_mid_frame);
            let control = if mid_frame { &[] } else { body.outbox.pending() };
            let control_len = control.len();
            iov.push(control);
            if let Some(queue) = &body.queue {
                queue.outgoing(&mut iov);
            }
            let wanted = iov.len_bytes();
            if wanted == 0 && stream.unsent() == 0 {
                break;
            }
            let unsent = stream.unsent();
            let sent = match stream.writev(&iov) {
                Ok(sent) => sent,
                Err(broken) => return self.doom(body, broken),
            };
            // What is encrypted and waits here was not taken by anybody yet.
            let taken = (unsent + sent).saturating_sub(stream.unsent());
            body.taking.took(taken, self.group.now_us());
            let of_control = sent.min(control_len);
            body.outbox.sent(of_control);
            if let Some(queue) = &mut body.queue {
                queue.sent(sent - of_control, &self.group.pools);
            }
            if sent < wanted || wanted == 0 {
                break;
            }
        }
        body.has_unsent = stream.unsent() > 0;
        if !body.wants_to_send() {
            body.taking.has_all(self.group.now_us());
        }
        if body.phase == Phase::Refused && body.outbox.is_empty() && !body.has_unsent {
            self.doom(body, Broken::Closed);
        }
        if let Some(secured) = body.secured.take_if(|_| body.outbox.is_empty()) {
            // Behind its part of the key agreement a client can't have anything to say in clear.
            if receiver.is_mid_stream() {
                return self.doom(body, Violation::Unexpected(Kind::Secure).into());
            }
            stream.secure(secured);
            body.is_secured = true;
            body.phase = Phase::Handshake;
        }
        self.mark_dirty(body);
    }

    /// What time asks for: a handshake that takes too long, a lease that is over, a client that takes no
    /// answers.
    pub fn tick(self: &Rc<Self>, now_us: u64) {
        let mut state = self.state.borrow_mut();
        let body = &mut state.body;
        if body.phase == Phase::Shut || body.doomed {
            return;
        }
        if !body.wants_to_send() {
            body.taking.has_all(now_us);
        } else if body.phase == Phase::Ready
            && let Some(since_ms) = body.taking.is_too_long(now_us)
        {
            return self.doom(body, Broken::NotTaking(since_ms));
        }
        if is_over(&body.lease, now_us) {
            let broken = body.lease_over(now_us);
            return self.doom(body, broken);
        }
        let third_us = u64::from(body.lease_ms) * 1000 / 3;
        if self.stalled.get() && now_us.saturating_sub(body.spoke_us) >= third_us && body.outbox.is_empty() {
            // It is we who do not listen, for lack of memory, until the lease ends. Until then the client
            // should not take it for our death.
            body.spoke_us = now_us;
            body.outbox.push(Header::new(Kind::KeepAliveAck), &[]);
            self.mark_dirty(body);
        }
    }

    /// Its client has the key: from behind the answer on, everything is encrypted.
    pub fn secure(self: &Rc<Self>, answer: &[u8], secured: Secured) {
        let mut state = self.state.borrow_mut();
        let body = &mut state.body;
        if body.phase == Phase::Shut {
            return;
        }
        body.phase = Phase::Securing;
        body.secured = Some(secured);
        body.outbox.push(Header::new(Kind::Secured), answer);
        self.mark_dirty(body);
    }

    /// Control lets it in.
    pub fn welcome(self: &Rc<Self>, welcome: &Welcome, queue: Option<(Queue, Channel)>) {
        let mut state = self.state.borrow_mut();
        let State { link, body, .. } = &mut *state;
        if body.phase == Phase::Shut {
            return;
        }
        if queue.is_some()
            && let Some((member, stream)) = link.take()
        {
            // Requests will come through it.
            drop(member);
            match self.group.sockets.add(stream.sock(), Rc::clone(self), Traffic::Much) {
                Ok(member) => *link = Some((member, stream)),
                Err(errno) => self.doom(body, Broken::Socket(errno)),
            }
        }
        body.phase = Phase::Ready;
        body.lease = Granted::new(welcome.keep_alive_ms, self.group.now_us());
        body.lease_ms = welcome.keep_alive_ms;
        body.taking = Taking::new(welcome.keep_alive_ms.min(NOT_TAKING_MS), self.group.now_us());
        (body.queue, body.channel) = queue.unzip();
        body.message = Vec::new();
        body.outbox.push(Header::new(Kind::Welcome), &welcome.encode());
        self.mark_dirty(body);
    }

    /// Control does not let it in.
    pub fn refuse(self: &Rc<Self>, refusal: &Refusal) {
        let mut state = self.state.borrow_mut();
        let body = &mut state.body;
        if body.phase == Phase::Shut {
            return;
        }
        body.phase = Phase::Refused;
        body.outbox.push(Header::new(Kind::Refusal), &refusal.encode());
        self.mark_dirty(body);
    }

    /// Tells the client that something changed.
    pub fn event(self: &Rc<Self>, event: Event) {
        let mut state = self.state.borrow_mut();
        let body = &mut state.body;
        if let (Event::Resized(num_blocks), Some(queue)) = (event, &mut body.queue) {
            queue.resized(num_blocks);
        }
        if body.phase == Phase::Ready && body.queue.is_none() {
            let mut header = Header::new(Kind::Event);
            header.code = event.code();
            body.outbox.push(header, &event.encode());
            self.mark_dirty(body);
        }
    }

    /// Closes the socket. What is in the backend goes on; nothing more is executed or answered.
    /// Not inside the socket group's poll.
    pub fn shut(self: &Rc<Self>) {
        let mut state = self.state.borrow_mut();
        if state.body.phase == Phase::Shut {
            return;
        }
        state.body.phase = Phase::Shut;
        state.link = None;
        let pools = &self.group.pools;
        if let Some(buffer) = state.held.take() {
            pools.put_receive(buffer);
        }
        let busy = state.body.queue.as_mut().is_some_and(|queue| {
            queue.disconnected(pools);
            queue.in_backend() > 0
        });
        drop(state);
        if busy {
            self.group.draining(self.id);
        } else {
            self.finish();
        }
    }

    /// Nothing of it is left anywhere: tells control.
    fn finish(self: &Rc<Self>) {
        let (queue, goodbye, stats) = {
            let body = &mut self.state.borrow_mut().body;
            let stats = body.stats();
            (body.queue.take(), body.goodbye, stats)
        };
        let slots = queue.map(Queue::into_slots);
        self.group.finished(self.id, Remains { slots, goodbye, stats });
    }

    /// It is over: the group shuts it after its poll.
    fn doom(self: &Rc<Self>, body: &mut Body, why: Broken) {
        if std::mem::replace(&mut body.doomed, true) {
            return;
        }
        body.ended = Some((why, body.phase));
        let expected = body.goodbye || body.phase == Phase::Refused;
        if !expected {
            self.group.log.warn(format_args!("DST connection from {} ended: {why}", self.peer));
        }
        self.group.doomed.borrow_mut().push(Rc::clone(self));
    }

    fn mark_dirty(self: &Rc<Self>, body: &Body) {
        if body.wants_to_send() && !body.doomed && !self.dirty.replace(true) {
            self.dirty_since_us.set(self.group.now_us());
            self.group.dirty.borrow_mut().push_back(Rc::clone(self));
        }
    }
}

impl SockReady for Connection {
    fn readable(self: Rc<Self>) {
        self.receive();
    }
}

impl Submitter for Connection {
    fn completed(self: Rc<Self>, io: Io, status: Status, now_us: u64) {
        let mut state = self.state.borrow_mut();
        let body = &mut state.body;
        let pools = &self.group.pools;
        let queue = body.queue.as_mut().expect("only a queue's requests reach the backend");
        queue.completed(io, status, now_us, pools);
        if body.phase == Phase::Shut {
            queue.drop_answers(pools);
            if queue.in_backend() == 0 {
                drop(state);
                self.finish();
            }
            return;
        }
        self.mark_dirty(body);
    }
}
