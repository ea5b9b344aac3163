//! One connection's way up: connect, hello, welcome; and again, when it was lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dst_security::handshake::ENTROPY_LEN;
use dst_security::{Initiator, Secured};
use dst_session::Violation;
use dst_session::lease::Held;
use dst_session::negotiate::check_welcome;
use dst_session::retry::Retry;
use dst_session::silence::Silence;
use dst_session::succession::Ask;
use dst_transport::{Broken, Outbox, RECEIVE_BUFFER, Receiver, Stream, read_keys};
use dst_wire::{Header, Hello, Kind, RefusalReason, Welcome};
use spdk::clock;
use spdk::interrupt::Watch;
use spdk::iov::Iov;
use spdk::poller::Waker;
use spdk::sock::Connecting;
use spdk::sock::Sock;
use zeroize::Zeroizing;

use crate::message::{Message, Messages};
use crate::shared::Shared;

/// A connect, and then a handshake, that takes longer is given up, ms. After 1 s and 3 s Linux repeats a lost
/// SYN (RFC 6298, section 2): with 2 s the network is tried at least once a second, whatever it lost. A
/// target that has to wait for its backend before it answers goes on waiting when the next hello comes.
const HANDSHAKE_TIMEOUT_MS: u32 = 2000;

/// How often the poller of a link that rests looks for what no socket tells: silence, leases, deadlines, µs.
/// The shortest keep-alive time is ten times as long, so that each quarter of it, after which a lease is renewed,
/// has two looks at least.
pub const REST_US: u64 = 10_000;

/// Where a connecting socket is put by its callback.
type Mailbox = Rc<RefCell<Option<spdk::Result<Sock>>>>;

/// A connection with a socket.
pub struct Connection {
    /// Before the socket goes, nobody is woken by it any more.
    watch: Watch,
    pub stream: Stream,
    pub receiver: Receiver,
    pub outbox: Outbox,
    /// How long the target has been silent.
    pub silence: Silence,
    /// Until when it executes what is sent here.
    pub lease: Held,
}

/// What a link's next hello asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing yet: there is no session to join.
    Nothing,
    /// A session.
    Session(Ask),
}

enum State {
    /// Waiting for the next attempt.
    Down,
    Connecting {
        _attempt: Connecting,
        mailbox: Mailbox,
        since_us: u64,
    },
    Securing(Box<Securing>),
    Greeting(Box<Greeting>),
    Up(Box<Connection>),
}

/// Our part of the key agreement was sent, the target's is awaited.
struct Securing {
    connection: Box<Connection>,
    initiator: Initiator,
    messages: Messages,
}

/// A hello was sent, a welcome is awaited.
struct Greeting {
    connection: Box<Connection>,
    hello: Hello,
    messages: Messages,
}

/// What became of an attempt.
pub enum Step {
    /// Nothing new.
    Nothing,
    /// The target let us in. What came right behind the welcome, maybe in part, is in the messages.
    Up(Box<Welcome>, Messages),
    /// The attempt failed; the reason, and whether the target refused for good.
    Failed { why: String, refused: Option<RefusalReason> },
}

/// A connection, or the attempts to have one.
pub struct Link {
    shared: Arc<Shared>,
    queue: u16,
    state: State,
    up_since_us: u64,
    /// When to try.
    retry: Retry,
    /// Of the poller that advances this link.
    waker: Waker,
    /// The receive buffer of all its connections, one after the other.
    buffer: Box<[u8]>,
}

impl Link {
    /// The link of a queue; 0 is the control connection's. It begins to connect at its first
    /// [`Link::advance`]. The receive buffer has `buffer` bytes, at most [`RECEIVE_BUFFER`].
    pub fn new(shared: Arc<Shared>, queue: u16, buffer: usize, now_us: u64) -> Link {
        let mut seed = [0; 8];
        spdk::random::fill(&mut seed);
        let retry = Retry::new(shared.options().reconnect_delay_ms, u64::from_le_bytes(seed), now_us);
        let buffer = vec![0; buffer.min(RECEIVE_BUFFER)].into();
        Link { shared, queue, state: State::Down, up_since_us: 0, retry, waker: Waker::default(), buffer }
    }

    /// Sets what wakes the poller that advances this link.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// Whether the target has let us in.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// The connection and the buffer, when it is up.
    pub fn up(&mut self) -> Option<(&mut Connection, &mut [u8])> {
        match &mut self.state {
            State::Up(connection) => Some((connection, &mut self.buffer)),
            _ => None,
        }
    }

    /// The connection is over; the next attempt is due at once. One that lasted for less than the longest
    /// time between two attempts was a failed attempt: else a target that lets us in and closes again
    /// would be tried without a pause.
    pub fn lost(&mut self, now_us: u64) {
        let lasted_us = now_us.saturating_sub(self.up_since_us);
        if lasted_us < u64::from(self.shared.options().reconnect_delay_ms) * 1000 {
            return self.unusable(now_us);
        }
        self.state = State::Down;
        self.retry.restart(now_us);
    }

    /// The target let us in, but to something that we can't use: a failed attempt.
    pub fn unusable(&mut self, now_us: u64) {
        self.state = State::Down;
        self.retry.failed(now_us);
    }

    /// Closes the connection, or ends the attempt to have one.
    pub fn close(&mut self) {
        self.state = State::Down;
    }

    /// Closes the connection with a goodbye, or ends the attempt to have one. Returns whether there was a
    /// connection.
    pub fn close_politely(&mut self) -> bool {
        let was_up = self.is_up();
        if let Some((connection, _)) = self.up() {
            connection.goodbye();
        }
        self.close();
        was_up
    }

    /// The next attempt is due at once, and the delays begin anew.
    pub fn retry_at_once(&mut self, now_us: u64) {
        self.retry.restart(now_us);
    }

    /// The attempt failed, and there is another address that was not tried yet: at once.
    pub fn try_next_address(&mut self, now_us: u64) {
        self.retry.failed_here(now_us);
    }

    /// Goes on with connecting, if the link is not up.
    pub fn advance(&mut self, now_us: u64, wanted: Wanted) -> Step {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Up(connection) => {
                self.state = State::Up(connection);
                Step::Nothing
            }
            State::Down if wanted == Wanted::Nothing || !self.retry.begin(now_us) => Step::Nothing,
            State::Down => self.connect(now_us),
            State::Connecting { _attempt, mailbox, since_us } => {
                let arrived = mailbox.borrow_mut().take();
                match arrived {
                    Some(Ok(sock)) => self.connected(sock, wanted, now_us),
                    Some(Err(errno)) => self.failed(now_us, errno.to_string(), None),
                    None if now_us.saturating_sub(since_us) >= u64::from(HANDSHAKE_TIMEOUT_MS) * 1000 => {
                        self.failed(now_us, "connecting takes too long".to_owned(), None)
                    }
                    None => {
                        self.state = State::Connecting { _attempt, mailbox, since_us };
                        Step::Nothing
                    }
                }
            }
            State::Securing(securing) => self.await_secured(securing, wanted, now_us),
            State::Greeting(greeting) => self.await_welcome(greeting, now_us),
        }
    }

    fn failed(&mut self, now_us: u64, why: String, refused: Option<RefusalReason>) -> Step {
        self.state = State::Down;
        self.retry.failed(now_us);
        Step::Failed { why, refused }
    }

    fn connect(&mut self, now_us: u64) -> Step {
        let mailbox = Mailbox::default();
        let arrived = Rc::clone(&mailbox);
        let peer = self.shared.peer();
        let waker = self.waker.clone();
        let put = move |result| {
            *arrived.borrow_mut() = Some(result);
            waker.wake();
        };
        let addr = self.shared.address().to_string();
        match spdk::sock::connect(&addr, peer.port, peer.sock_impl.as_deref(), put) {
            Ok(attempt) => {
                self.state = State::Connecting { _attempt: attempt, mailbox, since_us: now_us };
                Step::Nothing
            }
            Err(errno) => self.failed(now_us, errno.to_string(), None),
        }
    }

    /// There is a connection: to be secured first, if there is a key.
    fn connected(&mut self, sock: Sock, wanted: Wanted, now_us: u64) -> Step {
        let watch = match sock.watch(&self.waker) {
            Ok(watch) => watch,
            Err(errno) => return self.failed(now_us, errno.to_string(), None),
        };
        let mut connection = Box::new(Connection {
            watch,
            stream: Stream::new(sock),
            receiver: Receiver::new(),
            outbox: Outbox::new(),
            silence: Silence::new(HANDSHAKE_TIMEOUT_MS, now_us),
            lease: Held::new(0, now_us),
        });
        let Some(source) = &self.shared.peer().key else { return self.greet(connection, wanted, now_us) };
        let keys = match read_keys(source) {
            Ok(keys) => keys,
            Err(why) => return self.failed(now_us, format!("{}: {why}", source.parameter().0), None),
        };
        let psk = keys.first().expect("there is one, or it was refused");
        let mut entropy = Zeroizing::new([0; ENTROPY_LEN]);
        spdk::random::fill(&mut entropy[..]);
        let (initiator, message) = Initiator::begin(psk, &self.shared.offer(), &entropy);
        connection.outbox.push(Header::new(Kind::Secure), &message);
        let securing = Securing { connection, initiator, messages: Messages::default() };
        self.state = State::Securing(Box::new(securing));
        Step::Nothing
    }

    fn await_secured(&mut self, mut securing: Box<Securing>, wanted: Wanted, now_us: u64) -> Step {
        let Securing { connection, messages, .. } = &mut *securing;
        let (first, outcome) = connection.await_first(&mut self.buffer, messages);
        match (first, outcome) {
            (Some(Message::Secured(message)), _) => {
                let Securing { mut connection, initiator, messages } = *securing;
                // Nothing was asked of it yet that more could be an answer to.
                if !messages.inbox.is_empty()
                    || connection.receiver.is_mid_stream()
                    || !connection.outbox.is_empty()
                {
                    return self.failed(now_us, "the target said more than it was asked".to_owned(), None);
                }
                match initiator.finish(&message) {
                    Ok(secured) => {
                        connection.secure(secured);
                        self.greet(connection, wanted, now_us)
                    }
                    Err(error) => self.failed(now_us, error.to_string(), None),
                }
            }
            // In clear anybody on the way may have said it: that must not end a session.
            (Some(Message::Refusal(refusal)), _) if refusal.reason == RefusalReason::NoSession => {
                self.failed(now_us, "the target refused before it was asked".to_owned(), None)
            }
            (Some(message), _) => self.not_expected(&message, now_us),
            (None, Err(broken)) => self.failed(now_us, broken.to_string(), None),
            (None, Ok(())) if connection.silence.is_too_long(now_us) => {
                self.failed(now_us, "the handshake takes too long".to_owned(), None)
            }
            (None, Ok(())) => {
                self.state = State::Securing(securing);
                Step::Nothing
            }
        }
    }

    /// A refusal, or what has no place in a handshake.
    fn not_expected(&mut self, message: &Message, now_us: u64) -> Step {
        match message {
            Message::Refusal(refusal) => {
                let why = format!("the target refused: {}", refusal.text);
                self.failed(now_us, why, Some(refusal.reason))
            }
            _ => self.failed(
                now_us,
                "the target sent something else than its part of the handshake".to_owned(),
                None,
            ),
        }
    }

    fn greet(&mut self, mut connection: Box<Connection>, wanted: Wanted, now_us: u64) -> Step {
        let mut hello = match wanted {
            Wanted::Nothing => return self.failed(now_us, "the session is gone".to_owned(), None),
            Wanted::Session(Ask::Open(previous)) => self.shared.hello_open(previous),
            Wanted::Session(Ask::Join(id)) => self.shared.hello_join(id, self.queue),
        };
        hello.ciphers = vec![connection.stream.cipher() as u8];
        connection.outbox.push(Header::new(Kind::Hello), &hello.encode());
        let greeting = Greeting { connection, hello, messages: Messages::default() };
        self.state = State::Greeting(Box::new(greeting));
        Step::Nothing
    }

    fn await_welcome(&mut self, mut greeting: Box<Greeting>, now_us: u64) -> Step {
        let Greeting { connection, hello, messages } = &mut *greeting;
        let (first, outcome) = connection.await_first(&mut self.buffer, messages);
        match first {
            Some(Message::Welcome(welcome)) => match check_welcome(hello, &welcome) {
                Ok(()) => {
                    connection.silence = Silence::new(welcome.keep_alive_ms, now_us);
                    // Not this turn's time: if we were stopped since, the welcome may be younger.
                    connection.lease = Held::new(welcome.keep_alive_ms, clock::now_us());
                    let Greeting { connection, messages, .. } = *greeting;
                    self.state = State::Up(connection);
                    self.up_since_us = now_us;
                    Step::Up(welcome, messages)
                }
                Err(error) => self.failed(now_us, error.to_string(), None),
            },
            Some(message) => self.not_expected(&message, now_us),
            None if outcome.is_err() => {
                let why = outcome.map_or_else(|broken| broken.to_string(), |()| String::new());
                self.failed(now_us, why, None)
            }
            None if connection.silence.is_too_long(now_us) => {
                self.failed(now_us, "the handshake takes too long".to_owned(), None)
            }
            None => {
                self.state = State::Greeting(greeting);
                Step::Nothing
            }
        }
    }
}

impl Connection {
    /// Sends what the outbox has, as much as the socket takes.
    pub fn send_control(&mut self) -> Result<(), Broken> {
        if self.outbox.is_empty() && self.stream.unsent() == 0 {
            return Ok(());
        }
        let mut iov = Iov::new();
        iov.push(self.outbox.pending());
        let sent = self.stream.writev(&iov)?;
        self.outbox.sent(sent);
        Ok(())
    }

    /// Whether its poller rests, and is woken by the socket.
    pub fn rests(&self) -> bool {
        self.watch.is_on()
    }

    /// Whether there is something to do for it of which the socket does not tell.
    pub fn has_more(&self) -> bool {
        !self.outbox.is_empty()
            || self.stream.unsent() > 0
            || self.stream.is_away()
            || self.stream.holds_bytes()
    }

    /// Goes on with a handshake: the first message that came, if one did, and whether the connection is still there.
    fn await_first(
        &mut self,
        buffer: &mut [u8],
        messages: &mut Messages,
    ) -> (Option<Message>, Result<(), Broken>) {
        let sent = self.send_control();
        let pumped = sent.and_then(|()| self.receiver.pump(&mut self.stream, buffer, messages));
        if messages.inbox.is_empty() && messages.acknowledged.is_some() {
            // Nothing was asked yet that it could be an answer to.
            return (None, Err(Violation::Unexpected(Kind::KeepAliveAck).into()));
        }
        let first = (!messages.inbox.is_empty()).then(|| messages.inbox.remove(0));
        (first, pumped.map(|_| ()))
    }

    /// From here on records are sent and received.
    fn secure(&mut self, secured: Secured) {
        self.stream.secure(secured);
    }

    /// Renews the lease when it is time to. `acknowledged` is a keep-alive's acknowledgement that has come.
    ///
    /// # Errors
    /// The target was silent for too long.
    pub fn keep_alive(&mut self, acknowledged: Option<u64>, now_us: u64) -> Result<(), Broken> {
        if let Some(id) = acknowledged {
            // Not this turn's time: if we were stopped since, the acknowledgement may be younger.
            self.lease.acknowledged(id, clock::now_us());
        }
        if self.silence.is_too_long(now_us) {
            return Err(Broken::Silent(now_us.saturating_sub(self.silence.heard_us()) / 1000));
        }
        if let Some((id, has)) = self.lease.ask(now_us) {
            self.outbox.push(Header { id, start: has, ..Header::new(Kind::KeepAlive) }, &[]);
        }
        Ok(())
    }

    /// Says that the connection ends on purpose, if the socket takes it now.
    pub fn goodbye(&mut self) {
        self.outbox.push(Header::new(Kind::Goodbye), &[]);
        // The connection is closed next: if this does not get through, the target notices the close.
        let _ = self.send_control();
    }
}
