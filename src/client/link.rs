//! The states of a connection from connecting to the Welcome, and the attempts to replace a lost
//! connection.

use std::sync::Arc;

use dst_session::addresses::Addresses;
use dst_session::large_frames::Life;
use dst_session::retry::Retry;
use dst_session::succession::Ask;
use dst_transport::RECEIVE_BUFFER;
use dst_wire::{Claim, Hello, Refusal, Welcome};
use spdk::poller::Waker;
use spdk::resolve::{Resolving, resolve};

use crate::address::Address;
use crate::connection::Connection;
use crate::handshake::{
    HANDSHAKE_TIMEOUT_MS, Handshake, HandshakeFailure, HandshakeFault, HandshakeProgress,
};
use crate::message::Messages;
use crate::places::Destination;
use crate::race::{ConnectRace, RaceProgress};
use crate::shared::Shared;

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
    /// There is no session yet that could be joined.
    Nothing,
    /// A session, and, for one that is opened, the ownership that it is to have.
    Session(Ask, Option<Claim>),
}

impl Wanted {
    /// Returns the Hello of a queue's connection, or `None` if nothing is wanted.
    fn hello(self, shared: &Shared, queue: u16) -> Option<Hello> {
        match self {
            Wanted::Nothing => None,
            Wanted::Session(Ask::Open(previous), claim) => {
                Some(Hello { claim, ..shared.hello_open(previous) })
            }
            Wanted::Session(Ask::Join(id), _) => Some(shared.hello_join(id, queue)),
        }
    }
}

enum LinkState {
    /// The link waits for the next attempt.
    Down,
    /// The target's names are being resolved. Control connection only.
    Resolving { resolving: Resolving, names: Vec<String>, since_us: u64 },
    /// Sockets are being connected.
    Connecting {
        race: ConnectRace,
        /// The value of [`Places::address_changes`](crate::places::Places::address_changes) at the
        /// beginning.
        address_change: u64,
    },
    /// The handshake is under way.
    Handshake(Handshake),
    /// The target has admitted the client.
    Up(Box<Connection>),
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
                        let hello = || wanted.hello(&self.shared, self.queue);
                        let progress = Handshake::begin(&self.shared, sock, &self.waker, hello, now_us);
                        self.handshake_progressed(progress, now_us)
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
            LinkState::Handshake(handshake) => {
                let Link { shared, queue, buffer, .. } = self;
                let progress = handshake.advance(buffer, || wanted.hello(shared, *queue), now_us);
                self.handshake_progressed(progress, now_us)
            }
        }
    }

    fn failed(&mut self, now_us: u64, why: String, refused: Option<Refusal>) -> LinkProgress {
        self.state = LinkState::Down;
        self.retry.failed(now_us);
        LinkProgress::Failed { why, refused, at: self.at.clone() }
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

    /// Handles a step of the handshake.
    fn handshake_progressed(&mut self, progress: HandshakeProgress, now_us: u64) -> LinkProgress {
        match progress {
            HandshakeProgress::Running(handshake) => {
                self.state = LinkState::Handshake(handshake);
                LinkProgress::Nothing
            }
            HandshakeProgress::Admitted(connection, welcome, messages) => {
                self.state = LinkState::Up(connection);
                self.up_since_us = now_us;
                if let Some(at) = &self.at {
                    self.shared.places().admitted(at);
                }
                LinkProgress::Up(welcome, messages)
            }
            HandshakeProgress::Failed(HandshakeFailure { why, refused, fault }) => {
                let places = self.shared.places();
                match (fault, &self.at) {
                    (HandshakeFault::Address, Some(at)) => places.failed(at, why.clone(), now_us),
                    (HandshakeFault::NoSession(id), Some(at)) => places.no_session(at, &id, why.clone()),
                    (HandshakeFault::None, _) | (_, None) => {}
                }
                self.failed(now_us, why, refused)
            }
        }
    }
}
