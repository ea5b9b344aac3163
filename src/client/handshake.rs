//! The handshake on a connected socket: the key agreement, if there is a key, then a Hello, up to the
//! Welcome.

use dst_security::Initiator;
use dst_security::handshake::ENTROPY_LEN;
use dst_session::lease::Held;
use dst_session::negotiate::check_welcome;
use dst_session::silence::Silence;
use dst_transport::{Outbox, Receiver, Stream, read_keys};
use dst_wire::{Header, Hello, Kind, Refusal, RefusalReason, Welcome};
use spdk::clock;
use spdk::poller::Waker;
use spdk::sock::Sock;
use zeroize::Zeroizing;

use crate::connection::Connection;
use crate::message::{Message, Messages};
use crate::shared::Shared;

/// The maximum time for connecting, and again for the handshake, ms. Linux repeats a lost SYN after
/// 1 s and 3 s (RFC 6298, section 2), so with 2 s a SYN is sent at least once a second. A target
/// that waits for its backend refuses the client before this time is over (`waiting.rs` in
/// `src/broker`).
pub const HANDSHAKE_TIMEOUT_MS: u32 = 2000;

/// A handshake that is under way.
pub enum Handshake {
    /// The client's part of the key agreement was sent; the target's part is awaited.
    Securing(Box<Securing>),
    /// The Hello was sent; a Welcome is awaited.
    Greeting(Box<Greeting>),
}

/// The state of a key agreement.
pub struct Securing {
    connection: Box<Connection>,
    initiator: Initiator,
    messages: Messages,
}

/// The state of a connection whose Hello was sent.
pub struct Greeting {
    connection: Box<Connection>,
    hello: Hello,
    messages: Messages,
}

/// The outcome of a step of the handshake.
pub enum HandshakeProgress {
    /// The target's next frame is awaited.
    Running(Handshake),
    /// The target has admitted the client. The messages hold what came right behind the Welcome,
    /// possibly a part of a frame.
    Admitted(Box<Connection>, Box<Welcome>, Messages),
    /// The handshake has failed, and the connection is closed.
    Failed(HandshakeFailure),
}

/// A failed handshake.
pub struct HandshakeFailure {
    /// The reason, for people.
    pub why: String,
    /// The target's refusal, if there was one.
    pub refused: Option<Refusal>,
    pub fault: HandshakeFault,
}

/// What a failed handshake says about the address.
pub enum HandshakeFault {
    /// Nothing: the reason is on this machine, or the target was busy, whose answer shows that the
    /// path works.
    None,
    /// The address did not work.
    Address,
    /// The target at the address does not have this session.
    NoSession([u8; 16]),
}

impl HandshakeProgress {
    fn failed(why: impl Into<String>) -> HandshakeProgress {
        HandshakeProgress::with_fault(HandshakeFault::None, why)
    }

    fn failed_at_address(why: impl Into<String>) -> HandshakeProgress {
        HandshakeProgress::with_fault(HandshakeFault::Address, why)
    }

    fn with_fault(fault: HandshakeFault, why: impl Into<String>) -> HandshakeProgress {
        HandshakeProgress::Failed(HandshakeFailure { why: why.into(), refused: None, fault })
    }

    fn refused(fault: HandshakeFault, refusal: Refusal) -> HandshakeProgress {
        let why = format!("the target refused: {}", refusal.text);
        HandshakeProgress::Failed(HandshakeFailure { why, refused: Some(refusal), fault })
    }
}

impl Handshake {
    /// Begins the handshake on a connected socket, with the key agreement if there is a key. `waker`
    /// wakes the poller that calls [`Handshake::advance`]. `hello` returns the Hello when it is to be
    /// sent, or `None` if there is no session any more that it could join.
    pub fn begin(
        shared: &Shared,
        sock: Sock,
        waker: &Waker,
        hello: impl FnOnce() -> Option<Hello>,
        now_us: u64,
    ) -> HandshakeProgress {
        let watch = match sock.watch(waker) {
            Ok(watch) => watch,
            Err(errno) => return HandshakeProgress::failed(errno.to_string()),
        };
        let mut connection = Box::new(Connection {
            watch,
            stream: Stream::new(sock),
            receiver: Receiver::new(),
            outbox: Outbox::new(),
            silence: Silence::new(HANDSHAKE_TIMEOUT_MS, now_us),
            lease: Held::new(0, now_us),
        });
        let Some(source) = &shared.target().key else { return greet(connection, hello) };
        let keys = match read_keys(source) {
            Ok(keys) => keys,
            Err(why) => return HandshakeProgress::failed(format!("{}: {why}", source.parameter().0)),
        };
        let psk = keys.first().expect("there is one, or it was refused");
        let mut entropy = Zeroizing::new([0; ENTROPY_LEN]);
        spdk::random::fill(&mut entropy[..]);
        let (initiator, message) = Initiator::begin(psk, &shared.offer(), &entropy);
        connection.outbox.push(Header::new(Kind::Secure), &message);
        let securing = Securing { connection, initiator, messages: Messages::default() };
        HandshakeProgress::Running(Handshake::Securing(Box::new(securing)))
    }

    /// Continues the handshake. `buffer` is the connection's receive buffer. `hello` is as in
    /// [`Handshake::begin`].
    pub fn advance(
        self,
        buffer: &mut [u8],
        hello: impl FnOnce() -> Option<Hello>,
        now_us: u64,
    ) -> HandshakeProgress {
        match self {
            Handshake::Securing(securing) => await_secured(securing, buffer, hello, now_us),
            Handshake::Greeting(greeting) => await_welcome(greeting, buffer, now_us),
        }
    }
}

fn await_secured(
    mut securing: Box<Securing>,
    buffer: &mut [u8],
    hello: impl FnOnce() -> Option<Hello>,
    now_us: u64,
) -> HandshakeProgress {
    let Securing { connection, messages, .. } = &mut *securing;
    let (first, outcome) = connection.await_first(buffer, messages);
    match (first, outcome) {
        (Some(Message::Secured(message)), _) => {
            let Securing { mut connection, initiator, messages } = *securing;
            // A target sends nothing more before the Hello.
            if !messages.inbox.is_empty()
                || connection.receiver.is_mid_stream()
                || !connection.outbox.is_empty()
            {
                return HandshakeProgress::failed_at_address("the target said more than it was asked");
            }
            match initiator.finish(&message) {
                Ok(secured) => {
                    connection.secure(secured);
                    greet(connection, hello)
                }
                Err(error) => HandshakeProgress::failed_at_address(error.to_string()),
            }
        }
        // In clear, an attacker may have forged these refusals, which must not end a session.
        (Some(Message::Refusal(refusal)), _)
            if matches!(refusal.reason, RefusalReason::NoSession | RefusalReason::Owned) =>
        {
            HandshakeProgress::failed_at_address("the target refused before it was asked")
        }
        (Some(message), _) => not_expected(message),
        (None, Err(broken)) => HandshakeProgress::failed_at_address(broken.to_string()),
        (None, Ok(())) if connection.silence.is_too_long(now_us) => too_long(),
        (None, Ok(())) => HandshakeProgress::Running(Handshake::Securing(securing)),
    }
}

/// Sends the Hello.
fn greet(mut connection: Box<Connection>, hello: impl FnOnce() -> Option<Hello>) -> HandshakeProgress {
    let Some(mut hello) = hello() else { return HandshakeProgress::failed("the session is gone") };
    hello.ciphers = vec![connection.stream.cipher() as u8];
    connection.outbox.push(Header::new(Kind::Hello), &hello.encode());
    let greeting = Greeting { connection, hello, messages: Messages::default() };
    HandshakeProgress::Running(Handshake::Greeting(Box::new(greeting)))
}

fn await_welcome(mut greeting: Box<Greeting>, buffer: &mut [u8], now_us: u64) -> HandshakeProgress {
    let Greeting { connection, hello, messages } = &mut *greeting;
    let (first, outcome) = connection.await_first(buffer, messages);
    match (first, outcome) {
        (Some(Message::Welcome(welcome)), _) => match check_welcome(hello, &welcome) {
            Ok(()) => {
                connection.silence = Silence::new(welcome.keep_alive_ms, now_us);
                // The time at the beginning of this turn is too old: if the process was stopped
                // since then, the Welcome may have come later.
                connection.lease = Held::new(welcome.keep_alive_ms, clock::now_us());
                let Greeting { connection, messages, .. } = *greeting;
                HandshakeProgress::Admitted(connection, welcome, messages)
            }
            Err(error) => HandshakeProgress::failed_at_address(error.to_string()),
        },
        (Some(Message::Refusal(refusal)), _) if refusal.reason == RefusalReason::NoSession => {
            let session = hello.session.as_ref();
            let fault = session.map_or(HandshakeFault::None, |session| HandshakeFault::NoSession(session.id));
            HandshakeProgress::refused(fault, refusal)
        }
        (Some(message), _) => not_expected(message),
        (None, Err(broken)) => HandshakeProgress::failed_at_address(broken.to_string()),
        (None, Ok(())) if connection.silence.is_too_long(now_us) => too_long(),
        (None, Ok(())) => HandshakeProgress::Running(Handshake::Greeting(greeting)),
    }
}

/// Fails the handshake because of a refusal or of an unexpected message.
fn not_expected(message: Message) -> HandshakeProgress {
    match message {
        Message::Refusal(refusal) if refusal.reason == RefusalReason::Busy => {
            HandshakeProgress::refused(HandshakeFault::None, refusal)
        }
        Message::Refusal(refusal) => HandshakeProgress::refused(HandshakeFault::Address, refusal),
        _ => HandshakeProgress::failed_at_address(
            "the target sent a frame that does not belong in the handshake",
        ),
    }
}

fn too_long() -> HandshakeProgress {
    HandshakeProgress::failed_at_address("the handshake takes too long")
}
