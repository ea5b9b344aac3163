//! A connection: its state, and the two halves that send and receive.

mod ends;
mod input;
mod output;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::clock::Clock;
use crate::config::Config;
use crate::event::{ConnectionId, Event};
use crate::reassembly::Chunk;
use crate::receiver::Receiver;
use crate::send_queue::Payload;
use crate::sender::Sender;
use crate::seq::Seq;
use crate::state::State;

pub(crate) use input::{Answer, Predicted};

/// What every step of a connection needs.
pub(crate) struct Context<'a, B> {
    /// Microseconds.
    pub now: u64,
    pub config: &'a Config,
    pub events: &'a mut VecDeque<Event<B>>,
}

/// ACKs that segments outside of the window cause, at most so many in so many microseconds: they
/// must not be answered without end, nor told apart by their number (RFC 5961, 7).
const CHALLENGES: u32 = 10;
const CHALLENGE_PERIOD: u64 = 100_000;

/// Whether the user knows of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// Not yet: it was not accepted.
    Unaware,
    Attached,
    /// The user has closed it, and will neither read nor send.
    Gone,
    /// The user was told that it has ended: it is only remembered.
    Told,
}

/// An ACK that is due although nothing was received in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poke {
    None,
    /// An empty segment below the window, which the peer has to answer: a probe of its window, or a
    /// keep-alive.
    Due,
}

/// What both sides have agreed on by their SYNs.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    sack: bool,
    window_scaling: bool,
    clock: Option<Clock>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection<F, B> {
    id: ConnectionId,
    local: SocketAddr,
    remote: SocketAddr,
    state: State,
    user: User,
    sender: Sender<B>,
    /// None until the peer's SYN has come.
    receiver: Option<Receiver<F>>,
    clock: Clock,
    agreed: Agreed,
    poke: Poke,
    /// The connection has ended in a way that the peer has to be told of.
    reset_due: bool,
    /// When the connection was created.
    since: u64,
    /// When something was heard from the peer last, and the unanswered keep-alive probes since.
    heard_at: u64,
    keep_alives: u32,
    /// The beginning of a period, and the ACKs in it that were challenges.
    challenges: (u64, u32),
}

/// How a connection comes to be.
pub(crate) struct Opening {
    pub id: ConnectionId,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// The initial sequence number (RFC 6528).
    pub initial: u32,
    /// What the timestamp clock is ahead by.
    pub clock_offset: u32,
}

impl<F, B: Payload> Connection<F, B> {
    fn new(opening: Opening, state: State, user: User, config: &Config, now: u64) -> Connection<F, B> {
        Connection {
            id: opening.id,
            local: opening.local,
            remote: opening.remote,
            state,
            user,
            sender: Sender::new(Seq::initial(opening.initial), config, now),
            receiver: None,
            clock: Clock::new(opening.clock_offset),
            agreed: Agreed { sack: false, window_scaling: false, clock: None },
            poke: Poke::None,
            reset_due: false,
            since: now,
            heard_at: now,
            keep_alives: 0,
            challenges: (now, 0),
        }
    }

    /// Returns a connection that asks the peer for one.
    pub fn connect(opening: Opening, config: &Config, now: u64) -> Connection<F, B> {
        Connection::new(opening, State::SynSent, User::Attached, config, now)
    }

    pub fn id(&self) -> ConnectionId {
        self.id
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Takes a router's word that a segment was too long.
    pub fn on_too_big(&mut self, seq: u32, most: u16, now: u64) {
        if self.state.is_synchronized() {
            self.sender.on_too_big(seq, u64::from(most), now);
        }
    }

    pub fn sender(&self) -> &Sender<B> {
        &self.sender
    }

    /// Returns whether the user was told that the connection has ended.
    pub fn is_told(&self) -> bool {
        self.user == User::Told
    }

    /// Hands the connection to the user, who accepts it.
    pub fn accept(&mut self, cx: &mut Context<'_, B>) {
        self.user = User::Attached;
        if self.receiver.as_ref().is_some_and(|receiver| receiver.has_unread() || receiver.is_finished()) {
            cx.events.push_back(Event::Readable(self.id));
        }
    }

    /// Queues data. Returns it if the user may send no more, or if too much is queued.
    pub fn send(&mut self, buffer: B, config: &Config) -> Result<(), B> {
        let room = config.max_send_bytes.saturating_sub(self.sender.queue.bytes());
        if !self.may_send() || (buffer.size() as u64 > room && self.sender.queue.bytes() > 0) {
            return Err(buffer);
        }
        self.sender.queue.push(buffer);
        Ok(())
    }

    /// Returns whether the user may still send.
    pub fn may_send(&self) -> bool {
        self.user == User::Attached && self.state.may_send() && !self.sender.is_closing()
    }

    /// Takes received data out, the oldest first.
    pub fn read(&mut self, config: &Config, now: u64) -> Option<Chunk<F>> {
        let rtt = self.sender.rtt.smoothed().unwrap_or(1_000);
        self.receiver.as_mut()?.read(rtt, config, now)
    }

    /// Returns whether the peer has closed and all its data was read.
    pub fn is_at_end(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| receiver.is_finished() && !receiver.has_unread())
    }
}
