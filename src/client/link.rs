//! How a connection comes up: connect, Hello, Welcome; and comes up again when it was lost.

use std::sync::Arc;

use dst_security::handshake::ENTROPY_LEN;
use dst_security::{Initiator, Secured};
use dst_session::Violation;
use dst_session::addresses::Addresses;
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
use spdk::sock::Sock;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::message::{Message, Messages};
use crate::race::{Heat, Runners};
use crate::shared::Shared;

/// The longest time that a connect, and then a handshake, may take, ms. Linux repeats a lost SYN
/// after 1 s and 3 s (RFC 6298, section 2), so with 2 s the network is tried at least once a
/// second, whatever it lost. A target that waits for its backend before it answers keeps waiting
/// when the next Hello comes.
const HANDSHAKE_TIMEOUT_MS: u32 = 2000;

/// The period of a resting poller, µs: how often it looks for what no socket reports, which is
/// silence, leases and deadlines. A lease is renewed after a quarter of the keep-alive time, of which
/// the shortest is 100 ms: the poller looks at least twice in that time.
pub const REST_US: u64 = 10_000;

/// The queue of the control connection.
pub const CONTROL: u16 = 0;

/// A connection that has a socket.
pub struct Connection {
    /// Dropped before the stream, so that a closed socket wakes no poller.
    watch: Watch,
    pub stream: Stream,
    pub receiver: Receiver,
    pub outbox: Outbox,
    /// How long the target has been silent.
    pub silence: Silence,
    /// Until when the target executes what is sent on this connection.
    pub lease: Held,
}

/// What a link's next Hello asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing yet: there is no session to join.
    Nothing,
    /// A session.
    Session(Ask),
}

enum LinkState {
    /// Waiting for the next attempt.
    Down,
    Connecting {
        runners: Runners,
        /// [`Shared::address_changes`] at the beginning.
        address_change: u64,
    },
    Securing(Box<Securing>),
    Greeting(Box<Greeting>),
    Up(Box<Connection>),
}

/// The client's part of the key agreement was sent; the target's is awaited.
struct Securing {
    connection: Box<Connection>,
    initiator: Initiator,
    messages: Messages,
}

/// A Hello was sent; a Welcome is awaited.
struct Greeting {
    connection: Box<Connection>,
    hello: Hello,
    messages: Messages,
}

/// The progress of an attempt to connect.
pub enum Step {
    /// Nothing has changed.
    Nothing,
    /// The target admitted the client. The messages hold what came right behind the Welcome,
    /// maybe in part.
    Up(Box<Welcome>, Messages),
    /// The attempt failed, for the reason `why`; `refused`: the target said so. `at` is the address
    /// that has connected; `None`: none of those that were raced has.
    Failed { why: String, refused: Option<RefusalReason>, at: Option<Address> },
}

/// A connection, or the attempts to have one.
pub struct Link {
    shared: Arc<Shared>,
    queue: u16,
    state: LinkState,
    /// The address that has connected, during and after the handshake.
    at: Option<Address>,
    up_since_us: u64,
    /// The times of the attempts.
    retry: Retry,
    /// Wakes the poller that advances this link.
    waker: Waker,
    /// The receive buffer, which all connections of this link use in turn.
    buffer: Box<[u8]>,
}

impl Link {
    /// Returns the link of a queue; queue 0 is the control connection's. The link begins to connect
    /// at the first [`Link::advance`]. The receive buffer has `buffer` bytes, at most [`RECEIVE_BUFFER`].
    pub fn new(shared: Arc<Shared>, queue: u16, buffer: usize, now_us: u64) -> Link {
        let mut seed = [0; 8];
        spdk::random::fill(&mut seed);
        let retry = Retry::new(shared.options().reconnect_delay_ms, u64::from_le_bytes(seed), now_us);
        let buffer = vec![0; buffer.min(RECEIVE_BUFFER)].into();
        let waker = Waker::default();
        Link { shared, queue, state: LinkState::Down, at: None, up_since_us: 0, retry, waker, buffer }
    }

    /// Sets what wakes the poller that advances this link.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// Returns whether the target has admitted the client.
    pub fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up(_))
    }

    /// Returns the address of the connection, or of the handshake under way.
    pub fn address(&self) -> Option<&Address> {
        self.at.as_ref()
    }

    /// Returns the connection and the receive buffer if the link is up.
    pub fn up(&mut self) -> Option<(&mut Connection, &mut [u8])> {
        match &mut self.state {
            LinkState::Up(connection) => Some((connection, &mut self.buffer)),
            _ => None,
        }
    }

    /// Closes a lost connection; the next attempt is due at once. A connection that lasted for less
    /// than the longest time between two attempts counts as a failed attempt: otherwise a target
    /// that admits the client and closes again would be tried without a pause.
    pub fn lost(&mut self, now_us: u64) {
        let lasted_us = now_us.saturating_sub(self.up_since_us);
        if lasted_us < u64::from(self.shared.options().reconnect_delay_ms) * 1000 {
            return self.unusable(now_us);
        }
        self.state = LinkState::Down;
        self.retry.restart(now_us);
    }

    /// Closes a connection that the client can't use, and counts it as a failed attempt.
    pub fn unusable(&mut self, now_us: u64) {
        self.state = LinkState::Down;
        self.retry.failed(now_us);
    }

    /// Closes the connection, or ends the attempt to have one.
    pub fn close(&mut self) {
        self.state = LinkState::Down;
    }

    /// Closes the connection with a goodbye, or ends the attempt to have one. Returns whether there
    /// was a connection.
    pub fn close_politely(&mut self) -> bool {
        let was_up = self.is_up();
        if let Some((connection, _)) = self.up() {
            connection.goodbye();
        }
        self.close();
        was_up
    }

    /// Makes the next attempt due at once, and begins the delays anew.
    pub fn retry_at_once(&mut self, now_us: u64) {
        self.retry.restart(now_us);
    }

    /// Makes the next attempt due at once, because it goes to addresses that were not tried yet.
    pub fn try_next_address(&mut self, now_us: u64) {
        self.retry.failed_here(now_us);
    }

    /// Continues to connect, if the link is not up.
    pub fn advance(&mut self, now_us: u64, wanted: Wanted) -> Step {
        match std::mem::replace(&mut self.state, LinkState::Down) {
            LinkState::Up(connection) => {
                self.state = LinkState::Up(connection);
                Step::Nothing
            }
            LinkState::Down if wanted == Wanted::Nothing || !self.retry.begin(now_us) => Step::Nothing,
            LinkState::Down => self.connect(now_us),
            LinkState::Connecting { address_change, .. }
                if self.queue != CONTROL && address_change != self.shared.address_changes() =>
            {
                // The control connection has found the target elsewhere.
                self.connect(now_us)
            }
            LinkState::Connecting { mut runners, address_change } => {
                match runners.advance(self.shared.peer(), &self.waker, now_us) {
                    Heat::On => {
                        self.state = LinkState::Connecting { runners, address_change };
                        Step::Nothing
                    }
                    Heat::Won(address, sock) => {
                        self.at = Some(address);
                        // Those that lost are closed before the winner says anything.
                        drop(runners);
                        self.connected(sock, wanted, now_us)
                    }
                    Heat::Lost(why) => self.failed(now_us, why, None),
                }
            }
            LinkState::Securing(securing) => self.await_secured(securing, wanted, now_us),
            LinkState::Greeting(greeting) => self.await_welcome(greeting, now_us),
        }
    }

    fn failed(&mut self, now_us: u64, why: String, refused: Option<RefusalReason>) -> Step {
        self.state = LinkState::Down;
        self.retry.failed(now_us);
        Step::Failed { why, refused, at: self.at.clone() }
    }

    /// Begins to connect: the control connection to all addresses side by side, a channel to the
    /// one at which the control connection was admitted.
    fn connect(&mut self, now_us: u64) -> Step {
        self.at = None;
        let address_change = self.shared.address_changes();
        let addresses = match self.queue {
            CONTROL => self.shared.with_addresses(Addresses::next_race),
            _ => vec![self.shared.address()],
        };
        let runners = Runners::new(addresses, u64::from(HANDSHAKE_TIMEOUT_MS) * 1000, now_us);
        self.state = LinkState::Connecting { runners, address_change };
        Step::Nothing
    }

    /// Begins the handshake on a new connection: with the key agreement if there is a key.
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
        self.state = LinkState::Securing(Box::new(securing));
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
                self.state = LinkState::Securing(securing);
                Step::Nothing
            }
        }
    }

    /// Fails the attempt because of a refusal, or of a message that does not belong in a handshake.
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
        self.state = LinkState::Greeting(Box::new(greeting));
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
                    self.state = LinkState::Up(connection);
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
                self.state = LinkState::Greeting(greeting);
                Step::Nothing
            }
        }
    }
}

impl Connection {
    /// Sends the outbox, as much of it as the socket takes.
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

    /// Returns whether the poller rests and is woken by the socket.
    pub fn rests(&self) -> bool {
        self.watch.is_on()
    }

    /// Returns whether there is work for this connection that the socket does not report.
    pub fn has_more(&self) -> bool {
        !self.outbox.is_empty()
            || self.stream.unsent() > 0
            || self.stream.is_with_workers()
            || self.stream.holds_bytes()
    }

    /// Continues a handshake. Returns the first message that came, if one did, and whether the
    /// connection is still usable.
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

    /// Sends and receives records from here on.
    fn secure(&mut self, secured: Secured) {
        self.stream.secure(secured);
    }

    /// Renews the lease when that is due. `acknowledged` is the number of a keep-alive whose
    /// acknowledgement has come.
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

    /// Tells the target that the connection ends on purpose, if the socket takes that now.
    pub fn goodbye(&mut self) {
        self.outbox.push(Header::new(Kind::Goodbye), &[]);
        // The connection is closed next: if this does not get through, the target notices the
        // close.
        let _ = self.send_control();
    }
}
