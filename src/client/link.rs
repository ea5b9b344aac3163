//! The states of a connection from connecting to the Welcome, and the attempts to replace a lost
//! connection.

use std::sync::Arc;

use dst_security::Initiator;
use dst_security::handshake::ENTROPY_LEN;
use dst_session::addresses::Addresses;
use dst_session::large_frames::Life;
use dst_session::lease::Held;
use dst_session::negotiate::check_welcome;
use dst_session::retry::Retry;
use dst_session::silence::Silence;
use dst_session::succession::Ask;
use dst_transport::{Outbox, RECEIVE_BUFFER, Receiver, Stream, read_keys};
use dst_wire::{Claim, Header, Hello, Kind, Refusal, RefusalReason, Welcome};
use spdk::clock;
use spdk::poller::Waker;
use spdk::resolve::{Resolving, resolve};
use spdk::sock::Sock;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::connection::Connection;
use crate::message::{Message, Messages};
use crate::places::Destination;
use crate::race::{ConnectRace, RaceProgress};
use crate::shared::Shared;

/// The maximum time for connecting, and again for the handshake, ms. Linux repeats a lost SYN after
/// 1 s and 3 s (RFC 6298, section 2), so with 2 s a SYN is sent at least once a second. A target
/// that waits for its backend refuses the client before this time is over (`waiting.rs` in
/// `src/broker`).
pub const HANDSHAKE_TIMEOUT_MS: u32 = 2000;

/// The maximum time for resolving names, ms; after that, the previous addresses are tried. The
/// resolver of glibc asks a name server twice, for 5 s each (resolv.conf(5)).
const RESOLVE_TIMEOUT_MS: u32 = 10_000;

/// The period of a resting poller, µs, in which it checks what no socket reports: silence, leases
/// and deadlines. A lease is renewed after a quarter of the keep-alive time, which is at least 100
/// ms, so the poller checks at least twice in that time.
pub const REST_US: u64 = 10_000;

/// The queue of the control connection.
pub const CONTROL: u16 = 0;

/// The session that a link's next Hello asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// No session yet: there is none to join.
    Nothing,
    /// A session, and, for one that is opened, the ownership that it is to have.
    Session(Ask, Option<Claim>),
}

enum LinkState {
    /// The link waits for the next attempt.
    Down,
    /// The target's names are being resolved. Control connection only.
    Resolving {
        resolving: Resolving,
        names: Vec<String>,
        since_us: u64,
    },
    /// Sockets are being connected.
    Connecting {
        race: ConnectRace,
        /// The value of [`Places::address_changes`](crate::places::Places::address_changes) at the
        /// beginning.
        address_change: u64,
    },
    Securing(Box<Securing>),
    Greeting(Box<Greeting>),
    Up(Box<Connection>),
}

/// A link whose part of the key agreement was sent; the target's part is awaited.
struct Securing {
    connection: Box<Connection>,
    initiator: Initiator,
    messages: Messages,
}

/// A link whose Hello was sent; a Welcome is awaited.
struct Greeting {
    connection: Box<Connection>,
    hello: Hello,
    messages: Messages,
}

/// The progress of an attempt to connect.
pub enum LinkProgress {
    /// Nothing has changed.
    Nothing,
    /// The target has admitted the client. The messages hold what came right behind the Welcome,
    /// possibly a part of a frame.
    Up(Box<Welcome>, Messages),
    /// The attempt failed, for the reason `why`. `refused` is the target's refusal, if there was
    /// one. `at` is the address that had connected, or `None` if no address had.
    Failed { why: String, refused: Option<Refusal>, at: Option<Address> },
}

/// A connection, or the attempts to make one.
pub struct Link {
    shared: Arc<Shared>,
    queue: u16,
    state: LinkState,
    /// The value of [`Places::repoints`](crate::places::Places::repoints) when the attempt began.
    repoint: u64,
    /// The address to which the socket is connected, during and after the handshake.
    at: Option<Address>,
    up_since_us: u64,
    /// The schedule of attempts.
    retry: Retry,
    /// Wakes the poller that advances this link.
    waker: Waker,
    /// The receive buffer, which all connections of this link use in turn.
    buffer: Box<[u8]>,
}

impl Link {
    /// Returns the link of a queue; queue 0 is that of the control connection. The link begins to
    /// connect at the first [`Link::advance`]. The receive buffer has `buffer` bytes, at most
    /// [`RECEIVE_BUFFER`].
    pub fn new(shared: Arc<Shared>, queue: u16, buffer: usize, now_us: u64) -> Link {
        let mut seed = [0; 8];
        spdk::random::fill(&mut seed);
        let retry = Retry::new(shared.options().reconnect_delay_ms, u64::from_le_bytes(seed), now_us);
        let buffer = vec![0; buffer.min(RECEIVE_BUFFER)].into();
        let waker = Waker::default();
        Link {
            shared,
            queue,
            state: LinkState::Down,
            repoint: 0,
            at: None,
            up_since_us: 0,
            retry,
            waker,
            buffer,
        }
    }

    /// Sets the waker of the poller that advances this link.
    pub fn set_waker(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// Returns true if the target has admitted the client and the connection is not lost.
    pub fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up(_))
    }

    /// Returns the number of times the user had repointed the bdev when the connection's attempt
    /// began.
    #[inline]
    pub fn repoint(&self) -> u64 {
        self.repoint
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

    /// Returns the connection's times, if the link is up.
    pub fn life(&self) -> Option<Life> {
        let LinkState::Up(connection) = &self.state else { return None };
        Some(Life {
            admitted_us: self.up_since_us,
            heard_us: connection.silence.heard_us(),
            keep_alive_us: connection.silence.timeout_us(),
        })
    }

    /// Returns the waker of the poller that advances this link.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Closes a lost connection. The next attempt is due at once, unless the connection lasted for
    /// less than the longest time between two attempts. Then it counts as a failed attempt:
    /// otherwise, a target that admits the client and closes the connection again would be tried
    /// without a pause.
    pub fn lost(&mut self, now_us: u64) {
        let lasted_us = now_us.saturating_sub(self.up_since_us);
        if lasted_us < u64::from(self.shared.options().reconnect_delay_ms) * 1000 {
            return self.unusable(now_us);
        }
        self.state = LinkState::Down;
        self.retry.restart(now_us);
    }

    /// Closes a connection that the client can't use and counts it as a failed attempt.
    pub fn unusable(&mut self, now_us: u64) {
        self.state = LinkState::Down;
        self.retry.failed(now_us);
    }

    /// Closes the connection, or ends the attempt to make one.
    pub fn close(&mut self) {
        self.state = LinkState::Down;
    }

    /// Closes the connection with a Goodbye, or ends the attempt to make one. Returns true if there
    /// was a connection.
    pub fn close_politely(&mut self) -> bool {
        let was_up = self.is_up();
        if let Some((connection, _)) = self.up() {
            connection.goodbye();
        }
        self.close();
        was_up
    }

    /// Makes the next attempt due at once and resets the delays.
    pub fn retry_at_once(&mut self, now_us: u64) {
        self.retry.restart(now_us);
    }

    /// Makes the next attempt due at once, because it goes to addresses that were not tried yet.
    pub fn try_next_address(&mut self, now_us: u64) {
        self.retry.failed_here(now_us);
    }

    /// Continues to connect, if the link is not up.
    pub fn advance(&mut self, now_us: u64, wanted: Wanted) -> LinkProgress {
        match std::mem::replace(&mut self.state, LinkState::Down) {
            LinkState::Up(connection) => {
                self.state = LinkState::Up(connection);
                LinkProgress::Nothing
            }
            LinkState::Down if wanted == Wanted::Nothing || !self.retry.begin(now_us) => {
                LinkProgress::Nothing
            }
            LinkState::Down => self.connect(now_us),
            LinkState::Connecting { address_change, .. }
                if self.queue != CONTROL && address_change != self.shared.places().address_changes() =>
            {
                // The control connection was admitted at another address meanwhile.
                self.connect(now_us)
            }
            LinkState::Connecting { mut race, address_change } => {
                match race.advance(self.shared.target().sock_impl.as_deref(), &self.waker, now_us) {
                    RaceProgress::Running => {
                        self.state = LinkState::Connecting { race, address_change };
                        LinkProgress::Nothing
                    }
                    RaceProgress::Won(address, sock) => {
                        self.note_failures(&mut race, now_us);
                        self.at = Some(address);
                        // The other sockets are closed before anything is sent on this one.
                        drop(race);
                        self.connected(sock, wanted, now_us)
                    }
                    RaceProgress::Lost(why) => {
                        self.note_failures(&mut race, now_us);
                        self.failed(now_us, why, None)
                    }
                }
            }
            LinkState::Resolving { resolving, names, since_us } => {
                self.await_names(resolving, names, since_us, now_us)
            }
            LinkState::Securing(securing) => self.await_secured(securing, wanted, now_us),
            LinkState::Greeting(greeting) => self.await_welcome(greeting, now_us),
        }
    }

    fn failed(&mut self, now_us: u64, why: String, refused: Option<Refusal>) -> LinkProgress {
        self.state = LinkState::Down;
        self.retry.failed(now_us);
        LinkProgress::Failed { why, refused, at: self.at.clone() }
    }

    /// Fails the attempt and notes the failure as one of the target's address.
    fn failed_at_address(&mut self, now_us: u64, why: String, refused: Option<Refusal>) -> LinkProgress {
        if let Some(at) = &self.at {
            self.shared.places().failed(at, why.clone(), now_us);
        }
        self.failed(now_us, why, refused)
    }

    fn note_failures(&self, race: &mut ConnectRace, now_us: u64) {
        for (address, why) in race.failures() {
            self.shared.places().failed(&address, why, now_us);
        }
    }

    /// Begins to connect. The control connection resolves the names and then connects to all
    /// addresses side by side; a channel connects to one address.
    fn connect(&mut self, now_us: u64) -> LinkProgress {
        self.at = None;
        if self.queue != CONTROL {
            let mut destination = self.shared.places().of_queue(self.queue);
            let Some(address) = destination.address.take() else {
                return self.failed(now_us, "the target's name is not resolved yet".to_owned(), None);
            };
            return self.race(vec![address], &destination, now_us);
        }
        let names = self.shared.places().names_due();
        if names.is_empty() {
            return self.race_all(None, now_us);
        }
        match resolve(names.clone()) {
            Ok(resolving) => {
                self.state = LinkState::Resolving { resolving, names, since_us: now_us };
                LinkProgress::Nothing
            }
            Err(errno) => self.race_all(Some(format!("resolving names: {errno}")), now_us),
        }
    }

    fn await_names(
        &mut self,
        resolving: Resolving,
        names: Vec<String>,
        since_us: u64,
        now_us: u64,
    ) -> LinkProgress {
        match resolving.take() {
            Some(lookups) => {
                let why = self.shared.places().resolved(&names, lookups);
                self.race_all(why, now_us)
            }
            None if now_us.saturating_sub(since_us) >= u64::from(RESOLVE_TIMEOUT_MS) * 1000 => {
                self.race_all(Some(format!("resolving {} takes too long", names.join(", "))), now_us)
            }
            None => {
                self.state = LinkState::Resolving { resolving, names, since_us };
                LinkProgress::Nothing
            }
        }
    }

    /// Begins to connect to all known addresses. `why` is the reason for which some names were not
    /// resolved.
    fn race_all(&mut self, why: Option<String>, now_us: u64) -> LinkProgress {
        let addresses = self.shared.places().with_addresses(Addresses::next_race);
        // Nothing changes the addresses in between, since only the control connection does.
        let destination = self.shared.places().current();
        match why {
            Some(why) if addresses.is_empty() => self.failed(now_us, why, None),
            Some(why) => {
                self.shared.attempt_failed(why, now_us);
                self.race(addresses, &destination, now_us)
            }
            None if addresses.is_empty() => {
                self.failed(now_us, "the target's name has no address".to_owned(), None)
            }
            None => self.race(addresses, &destination, now_us),
        }
    }

    /// Begins to connect to these addresses, with the port of `destination`.
    fn race(&mut self, addresses: Vec<Address>, destination: &Destination, now_us: u64) -> LinkProgress {
        let &Destination { port, address_change, repoint, .. } = destination;
        self.repoint = repoint;
        let race = ConnectRace::new(addresses, port, u64::from(HANDSHAKE_TIMEOUT_MS) * 1000, now_us);
        self.state = LinkState::Connecting { race, address_change };
        LinkProgress::Nothing
    }

    /// Begins the handshake on a new connection, with the key agreement if there is a key.
    fn connected(&mut self, sock: Sock, wanted: Wanted, now_us: u64) -> LinkProgress {
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
        let Some(source) = &self.shared.target().key else { return self.greet(connection, wanted, now_us) };
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
        LinkProgress::Nothing
    }

    fn await_secured(&mut self, mut securing: Box<Securing>, wanted: Wanted, now_us: u64) -> LinkProgress {
        let Securing { connection, messages, .. } = &mut *securing;
        let (first, outcome) = connection.await_first(&mut self.buffer, messages);
        match (first, outcome) {
            (Some(Message::Secured(message)), _) => {
                let Securing { mut connection, initiator, messages } = *securing;
                // A target sends nothing more before the Hello.
                if !messages.inbox.is_empty()
                    || connection.receiver.is_mid_stream()
                    || !connection.outbox.is_empty()
                {
                    return self.failed_at_address(
                        now_us,
                        "the target said more than it was asked".to_owned(),
                        None,
                    );
                }
                match initiator.finish(&message) {
                    Ok(secured) => {
                        connection.secure(secured);
                        self.greet(connection, wanted, now_us)
                    }
                    Err(error) => self.failed_at_address(now_us, error.to_string(), None),
                }
            }
            // In clear, an attacker may have forged these refusals, which must not end a session.
            (Some(Message::Refusal(refusal)), _)
                if matches!(refusal.reason, RefusalReason::NoSession | RefusalReason::Owned) =>
            {
                self.failed_at_address(now_us, "the target refused before it was asked".to_owned(), None)
            }
            (Some(message), _) => self.not_expected(&message, now_us),
            (None, Err(broken)) => self.failed_at_address(now_us, broken.to_string(), None),
            (None, Ok(())) if connection.silence.is_too_long(now_us) => {
                self.failed_at_address(now_us, "the handshake takes too long".to_owned(), None)
            }
            (None, Ok(())) => {
                self.state = LinkState::Securing(securing);
                LinkProgress::Nothing
            }
        }
    }

    /// Fails the attempt because of a refusal or of an unexpected message.
    fn not_expected(&mut self, message: &Message, now_us: u64) -> LinkProgress {
        match message {
            Message::Refusal(refusal) => {
                let why = format!("the target refused: {}", refusal.text);
                let refused = Some(refusal.clone());
                // The answer of a busy target shows that the path works.
                if refusal.reason == RefusalReason::Busy {
                    return self.failed(now_us, why, refused);
                }
                self.failed_at_address(now_us, why, refused)
            }
            _ => self.failed_at_address(
                now_us,
                "the target sent a frame that does not belong in the handshake".to_owned(),
                None,
            ),
        }
    }

    fn greet(&mut self, mut connection: Box<Connection>, wanted: Wanted, now_us: u64) -> LinkProgress {
        let mut hello = match wanted {
            Wanted::Nothing => return self.failed(now_us, "the session is gone".to_owned(), None),
            Wanted::Session(Ask::Open(previous), claim) => {
                Hello { claim, ..self.shared.hello_open(previous) }
            }
            Wanted::Session(Ask::Join(id), _) => self.shared.hello_join(id, self.queue),
        };
        hello.ciphers = vec![connection.stream.cipher() as u8];
        connection.outbox.push(Header::new(Kind::Hello), &hello.encode());
        let greeting = Greeting { connection, hello, messages: Messages::default() };
        self.state = LinkState::Greeting(Box::new(greeting));
        LinkProgress::Nothing
    }

    fn await_welcome(&mut self, mut greeting: Box<Greeting>, now_us: u64) -> LinkProgress {
        let Greeting { connection, hello, messages } = &mut *greeting;
        let (first, outcome) = connection.await_first(&mut self.buffer, messages);
        match first {
            Some(Message::Welcome(welcome)) => match check_welcome(hello, &welcome) {
                Ok(()) => {
                    connection.silence = Silence::new(welcome.keep_alive_ms, now_us);
                    // The time at the beginning of this turn is too old: if the process was stopped
                    // since then, the Welcome may have come later.
                    connection.lease = Held::new(welcome.keep_alive_ms, clock::now_us());
                    let Greeting { connection, messages, .. } = *greeting;
                    self.state = LinkState::Up(connection);
                    self.up_since_us = now_us;
                    if let Some(at) = &self.at {
                        self.shared.places().admitted(at);
                    }
                    LinkProgress::Up(welcome, messages)
                }
                Err(error) => self.failed_at_address(now_us, error.to_string(), None),
            },
            Some(Message::Refusal(refusal)) if refusal.reason == RefusalReason::NoSession => {
                let why = format!("the target refused: {}", refusal.text);
                if let (Some(at), Some(session)) = (&self.at, &hello.session) {
                    self.shared.places().no_session(at, &session.id, why.clone());
                }
                self.failed(now_us, why, Some(refusal))
            }
            Some(message) => self.not_expected(&message, now_us),
            None if outcome.is_err() => {
                let why = outcome.map_or_else(|broken| broken.to_string(), |()| String::new());
                self.failed_at_address(now_us, why, None)
            }
            None if connection.silence.is_too_long(now_us) => {
                self.failed_at_address(now_us, "the handshake takes too long".to_owned(), None)
            }
            None => {
                self.state = LinkState::Greeting(greeting);
                LinkProgress::Nothing
            }
        }
    }
}
